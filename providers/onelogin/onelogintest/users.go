// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogintest

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Page sizes of the list of users (reference, Pagination).
const (
	pageSize    = 50
	maxPageSize = 100
)

// matches reports whether a value fits a filter of the query: equal, with "*"
// for any text, or, with a "!" in front, not so. What "!" means is nowhere
// stated; this is the worst that it could mean.
func (s *Server) matches(filter, value string) bool {
	if s.variants.FoldCase {
		filter, value = strings.ToLower(filter), strings.ToLower(value)
	}
	if rest, ok := strings.CutPrefix(filter, "!"); ok {
		return !glob(rest, value)
	}
	return glob(filter, value)
}

// glob compares with a pattern in which "*" is any text.
func glob(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	text, ok := strings.CutPrefix(text, parts[0])
	if !ok {
		return false
	}
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(text, part)
		if i < 0 {
			return false
		}
		text = text[i+len(part):]
	}
	return strings.HasSuffix(text, parts[len(parts)-1])
}

// selected are the users whom the query's filters leave. An empty filter
// leaves everybody, so that an empty name is no name.
func (s *Server) selected(q url.Values) []*User {
	var list []*User
	for _, u := range s.users {
		ok := true
		for key, value := range map[string]string{"email": u.Email, "username": u.Username} {
			if filter := q.Get(key); filter != "" {
				ok = ok && s.matches(filter, value)
			}
		}
		if ok {
			list = append(list, u)
		}
	}
	slices.SortFunc(list, func(a, b *User) int { return cmp.Compare(a.ID, b.ID) })
	if s.variants.ReverseLists {
		slices.Reverse(list)
	}
	return list
}

// page is a part of a list.
type page struct {
	limit, number, total int
}

// pageOf reads limit and page, or the cursor, which holds both.
func pageOf(q url.Values, total int) page {
	if cursor := q.Get("cursor"); cursor != "" {
		if b, err := base64.StdEncoding.DecodeString(cursor); err == nil {
			q, _ = url.ParseQuery(string(b)) // unreadable: the first page
		}
	}
	p := page{limit: atoi(q.Get("limit"), pageSize), number: atoi(q.Get("page"), 1), total: total}
	p.limit = min(p.limit, maxPageSize)
	return p
}

func atoi(text string, otherwise int) int {
	if n, err := strconv.Atoi(text); err == nil && n > 0 {
		return n
	}
	return otherwise
}

func (p page) pages() int { return max(1, (p.total+p.limit-1)/p.limit) }

// cut returns the page's part of a list.
func (p page) cut(list []*User) []*User {
	from := min((min(p.number, p.pages()+1)-1)*p.limit, len(list))
	return list[from:min(from+p.limit, len(list))]
}

// cursor points to page n, or is "" if there is none. In headers it is
// percent-encoded, as in the sample.
func (p page) cursor(n int) string {
	if n < 1 || n > p.pages() {
		return ""
	}
	return url.QueryEscape(base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "limit=%d&page=%d", p.limit, n)))
}

// listUsers2 answers GET /api/2/users (reference, List Users).
func (s *Server) listUsers2(c *call) answer {
	q := c.r.URL.Query()
	all := s.selected(q)
	p := pageOf(q, len(all))
	list := []any{}
	for _, u := range p.cut(all) {
		o := s.userObject(u)
		if !s.variants.FullList && (s.variants.IgnoreFields || q.Get("fields") == "") {
			shorten(o)
		}
		list = append(list, s.pick(o, q.Get("fields")))
	}
	a := jsonAnswer(200, list).
		with("Current-Page", strconv.Itoa(p.number)).
		with("Page-Items", strconv.Itoa(p.limit)).
		with("Total-Count", strconv.Itoa(p.total)).
		with("Total-Pages", strconv.Itoa(p.pages()))
	if before := p.cursor(p.number - 1); before != "" {
		a = a.with("Before-Cursor", before)
	}
	if after := p.cursor(p.number + 1); after != "" {
		a = a.with("After-Cursor", after)
	}
	return a
}

// shorten leaves what the sample of the list leaves out.
func shorten(o object) {
	for _, key := range []string{"role_ids", "custom_attributes", "preferred_locale_code", "trusted_idp_id"} {
		delete(o, key)
	}
}

// pick keeps only the fields that the query names.
func (s *Server) pick(o object, fields string) object {
	if fields == "" || s.variants.IgnoreFields {
		return o
	}
	wanted := strings.Split(fields, ",")
	maps.DeleteFunc(o, func(key string, _ any) bool { return !slices.Contains(wanted, key) })
	return o
}

// getUser2 answers GET /api/2/users/:id (reference, Get User).
func (s *Server) getUser2(c *call) answer {
	u := s.byID(c.id(0))
	if u == nil {
		return notFound()
	}
	return jsonAnswer(200, s.pick(s.userObject(u), c.r.URL.Query().Get("fields")))
}

// userObject is a user with all the fields of the sample.
func (s *Server) userObject(u *User) object {
	const then = "2020-01-02T03:04:05.000Z"
	o := object{
		"id": s.number(u.ID), "email": orNull(u.Email), "username": orNull(u.Username),
		"firstname": "A", "lastname": "Person", "company": nil, "department": nil, "title": nil,
		"phone": nil, "comment": nil, "status": u.Status, "state": u.State,
		"locked_until": stamp(u.LockedUntil), "invalid_login_attempts": u.InvalidLoginAttempts,
		"role_ids": s.numbers(s.roles(u)), "custom_attributes": object{}, "member_of": nil,
		"group_id": nil, "directory_id": nil, "distinguished_name": nil, "external_id": nil,
		"manager_ad_id": nil, "manager_user_id": nil, "samaccountname": nil, "userprincipalname": nil,
		"openid_name": orNull(u.Username), "trusted_idp_id": nil, "preferred_locale_code": nil,
		"created_at": then, "updated_at": then, "activated_at": then, "last_login": then,
		"password_changed_at": then, "invitation_sent_at": nil,
	}
	if s.variants.ExtraFields {
		o["manager_user_id"] = "100000000"
	}
	return s.decorate(o)
}

func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

func (s *Server) roles(u *User) []int64 {
	roles := slices.Clone(u.Roles)
	if s.variants.ReverseLists {
		slices.Reverse(roles)
	}
	return roles
}

// getRoles1 answers GET /api/1/users/:id/roles (reference, Get Roles for a
// User): a list in a list.
func (s *Server) getRoles1(c *call) answer {
	u := s.byID(c.id(0))
	if u == nil {
		return noUser1(c)
	}
	roles := s.numbers(s.roles(u))
	if s.variants.FlatRoles {
		return envelope(roles)
	}
	return envelope([]any{roles})
}

func noUser1(c *call) answer {
	return envelopeError(404, "Not Found", fmt.Sprintf("User for id %s was not found", c.args[0]))
}

// listUsers1 answers GET /api/1/users (reference, v1, Get Users).
func (s *Server) listUsers1(c *call) answer {
	q := c.r.URL.Query()
	if after := q.Get("after_cursor"); after != "" {
		q = url.Values{"cursor": {after}, "email": q["email"], "username": q["username"]}
	}
	all := s.selected(q)
	p := pageOf(q, len(all))
	data := []any{}
	for _, u := range p.cut(all) {
		data = append(data, s.userObject1(u))
	}
	return jsonAnswer(200, object{
		"status": object{"error": false, "code": 200, "type": "success", "message": "Success"},
		"pagination": object{
			"before_cursor": cursorOrNull(p.cursor(p.number - 1)), "after_cursor": cursorOrNull(p.cursor(p.number + 1)),
			"previous_link": nil, "next_link": nil,
		},
		"data": data,
	})
}

// cursorOrNull is a cursor as it stands in a body.
func cursorOrNull(encoded string) any {
	plain, _ := url.QueryUnescape(encoded) // our own encoding
	return orNull(plain)
}

// getUser1 answers GET /api/1/users/:id (reference, v1, Get User by ID).
func (s *Server) getUser1(c *call) answer {
	u := s.byID(c.id(0))
	if u == nil {
		return noUser1(c)
	}
	return envelope([]any{s.userObject1(u)})
}

// userObject1 is a user of the v1 API: role_id in place of role_ids.
func (s *Server) userObject1(u *User) object {
	o := s.userObject(u)
	o["role_id"] = o["role_ids"]
	delete(o, "role_ids")
	return o
}
