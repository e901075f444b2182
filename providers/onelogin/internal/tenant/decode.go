// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/url"
	"strconv"
	"strings"
)

func isURLError(err error) bool {
	var e *url.Error
	return errors.As(err, &e) && e == err //nolint:errorlint // err itself, so that it is unwrapped step by step
}

// A Number is a whole number that the API writes as one or as a string. Null
// is 0.
type Number int64

// UnmarshalJSON takes 17, "17" and null.
func (n *Number) UnmarshalJSON(b []byte) error {
	text := strings.Trim(string(b), `"`)
	if text == "null" || text == "" {
		*n = 0
		return nil
	}
	v, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return errors.New("not a whole number")
	}
	*n = Number(v)
	return nil
}

// text is a string that may be null, or a number.
type text string

func (t *text) UnmarshalJSON(b []byte) error {
	var s *string
	if json.Unmarshal(b, &s) == nil {
		if *t = ""; s != nil {
			*t = text(*s)
		}
		return nil
	}
	var n Number
	if err := n.UnmarshalJSON(b); err != nil {
		return errors.New("not text")
	}
	*t = text(strconv.FormatInt(int64(n), 10))
	return nil
}

// decodeList takes what the API's pages show as a list, as one object, or in
// version 1's envelope, and lists in lists.
func decodeList[T any](body []byte) ([]T, error) {
	return decodeDepth[T](body, 4)
}

func decodeDepth[T any](body []byte, depth int) ([]T, error) {
	body = bytes.TrimSpace(body)
	if depth == 0 || len(body) == 0 {
		return nil, errors.New("not a list")
	}
	switch body[0] {
	case '[':
		var items []json.RawMessage
		if err := json.Unmarshal(body, &items); err != nil {
			return nil, err
		}
		var all []T
		for _, item := range items {
			some, err := decodeDepth[T](item, depth-1)
			if err != nil {
				return nil, err
			}
			all = append(all, some...)
		}
		return all, nil
	case '{':
		var envelope struct {
			Data json.RawMessage `json:"data"`
		}
		if err := json.Unmarshal(body, &envelope); err == nil && len(envelope.Data) > 0 && envelope.Data[0] == '[' {
			return decodeDepth[T](envelope.Data, depth-1)
		}
	}
	var one T
	if err := json.Unmarshal(body, &one); err != nil {
		return nil, err
	}
	return []T{one}, nil
}
