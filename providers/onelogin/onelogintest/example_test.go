// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogintest_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"

	"github.com/pam-authn/pam-authn/providers/onelogin/onelogintest"
)

// A client gets a token, then an error that the test asked for.
func Example() {
	s, err := onelogintest.Start(onelogintest.Demo())
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	s.Fail("GET /api/2/users", onelogintest.Status(http.StatusBadGateway), onelogintest.Times(1))

	for _, call := range []string{"POST /auth/oauth2/v2/token", "GET /api/2/users"} {
		method, path, _ := strings.Cut(call, " ")
		req, err := http.NewRequest(method, s.URL+path, strings.NewReader(`{"grant_type":"client_credentials"}`))
		if err != nil {
			log.Fatal(err)
		}
		req.SetBasicAuth(onelogintest.ClientID, onelogintest.ClientSecret)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			log.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil { // so that the connection is kept
			log.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			log.Fatal(err)
		}
	}
	for _, r := range s.Requests() {
		fmt.Println(r.Call(), r.Status)
	}
	fmt.Println(s.Connections(), "connection")
	// Output:
	// POST /auth/oauth2/v2/token 200
	// GET /api/2/users 502
	// 1 connection
}
