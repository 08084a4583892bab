// usage: net_http_client - HTTPS-ORIGIN HTTP-ORIGIN CA-FILE SEED   (see common.py for the output; it knows no proxy)
package main

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"time"
)

func main() {
	log.SetFlags(0)
	https, plain, ca, seed := os.Args[2], os.Args[3], os.Args[4], os.Args[5]
	pem, err := os.ReadFile(ca)
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		log.Fatal("no certificate in ", ca)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	client := &http.Client{Transport: transport, Timeout: time.Minute}
	downloads := [][2]string{
		{"https", https + "/bytes/"},
		{"http", plain + "/bytes/"},
		{"chunked", plain + "/chunked/"},
		{"until-close", plain + "/until-close/"},
	}
	for _, download := range downloads {
		answer, err := client.Get(download[1] + seed + "/1000003")
		if err != nil {
			log.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || answer.StatusCode != http.StatusOK {
			log.Fatal(download[0], ": ", answer.Status, " ", err)
		}
		fmt.Printf("%s %x\n", download[0], sha256.Sum256(body))
	}
}
