// One request with a client certificate by net/http.
//
// usage: mtls_client URL CA-FILE CERTIFICATE KEY [PROXY]
// A CERTIFICATE of `-` is none; the proxy gets the same certificate. Prints `STATUS BODY`, or `refused WHY`.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"time"
)

func main() {
	log.SetFlags(0)
	target, ca, certificate, key := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	pem, err := os.ReadFile(ca)
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		log.Fatal("no certificate in ", ca)
	}
	config := &tls.Config{RootCAs: roots}
	if certificate != "-" {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			log.Fatal(err)
		}
		// Shown whether or not its issuer is among those that the server names.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &pair, nil
		}
	}
	transport := &http.Transport{TLSClientConfig: config}
	if len(os.Args) > 5 {
		proxy, err := url.Parse(os.Args[5])
		if err != nil {
			log.Fatal(err)
		}
		transport.Proxy = http.ProxyURL(proxy)
	}
	client := &http.Client{Transport: transport, Timeout: time.Minute}
	answer, err := client.Get(target)
	if err != nil {
		fmt.Println("refused", err)
		return
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		fmt.Println("refused", err)
		return
	}
	fmt.Println(answer.StatusCode, string(body))
}
