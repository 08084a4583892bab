// usage: capture_client CA-FILE SEED ORIGIN...   (see capture_client.py)
//
// Built without cgo: a static program, whose system calls no library of the system's makes.
package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

func main() {
	ca, err := os.ReadFile(os.Args[1])
	check(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	upload := make([]byte, 1<<20)
	for i := range upload {
		upload[i] = byte(i)
	}
	for _, origin := range os.Args[3:] {
		got, err := client.Get(origin + "/bytes/" + os.Args[2] + "/1000003")
		check(err)
		body, err := io.ReadAll(got.Body)
		check(err)
		fmt.Printf("get %x\n", sha256.Sum256(body))
		posted, err := client.Post(origin+"/digest", "application/octet-stream", bytes.NewReader(upload))
		check(err)
		answer, err := io.ReadAll(posted.Body)
		check(err)
		fmt.Println("post", strings.TrimSpace(string(answer)))
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
