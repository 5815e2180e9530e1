// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Command hello is the workload of the lab's own tests: it serves its host name at / and
// the host's files, mounted at /host, below /host/.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		name, err := os.Hostname()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, name)
	})
	http.HandleFunc("/host/", func(w http.ResponseWriter, r *http.Request) {
		content, err := os.ReadFile(r.URL.Path)
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		_, _ = w.Write(content)
	})
	log.Print("serving")
	log.Fatal(http.ListenAndServe(":8080", nil))
}
