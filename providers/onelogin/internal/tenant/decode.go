// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strconv"
	"strings"
)

// A Number is a whole number that the API writes as one or as a string, and that
// fits the SDK's int. Null is 0.
type Number int64

// UnmarshalJSON takes 17, "17" and null.
func (n *Number) UnmarshalJSON(b []byte) error {
	text := strings.Trim(string(b), `"`)
	if text == "null" || text == "" {
		*n = 0
		return nil
	}
	v, err := strconv.ParseInt(text, 10, strconv.IntSize)
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
	one, err := decodeExactly[T](body)
	if err != nil {
		return nil, err
	}
	return []T{one}, nil
}

// decodeExactly takes the keys of an object that T names, letter by letter:
// encoding/json would take STATUS for status, and the last of them.
func decodeExactly[T any](body []byte) (T, error) {
	var value T
	of := reflect.TypeFor[T]()
	if of.Kind() != reflect.Struct {
		return value, json.Unmarshal(body, &value)
	}
	var all, known = map[string]json.RawMessage{}, map[string]json.RawMessage{}
	if err := json.Unmarshal(body, &all); err != nil {
		return value, err
	}
	for i := range of.NumField() {
		name := of.Field(i).Tag.Get("json")
		if raw, ok := all[name]; ok {
			known[name] = raw
		}
	}
	exact, err := json.Marshal(known)
	if err != nil {
		return value, err
	}
	return value, json.Unmarshal(exact, &value)
}

// A flag is a boolean that may be written as a number or a string.
type flag bool

// UnmarshalJSON takes true, 1, "true", "1", and for false anything else of
// that kind.
func (f *flag) UnmarshalJSON(b []byte) error {
	switch word := strings.ToLower(strings.Trim(string(b), `"`)); word {
	case "true", "1":
		*f = true
	case "false", "0", "null", "":
		*f = false
	default:
		return errors.New("not a flag")
	}
	return nil
}
