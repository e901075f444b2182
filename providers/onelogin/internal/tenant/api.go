// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/onelogin/onelogin-go-sdk/v4/pkg/onelogin"
	"github.com/onelogin/onelogin-go-sdk/v4/pkg/onelogin/models"
)

// What is asked, and the least scope that OneLogin's pages name for it.
var (
	usersByEmail    = operation{name: "the users of an email address", scope: "Read users"}
	usersByUsername = operation{name: "the users of a username", scope: "Read users"}
	userByID        = operation{name: "the user", scope: "Read users", about: true}
	devices         = operation{name: "the user's factors", scope: "Manage all", about: true}
	trigger         = operation{name: "sending a push or code", scope: "Manage all"}
	poll            = operation{name: "the state of a push", scope: "Manage all"}
	verify          = operation{name: "checking a code"}
	password        = operation{name: "checking a password"}
)

// A User is a person of the tenant.
type User struct {
	ID       int64
	Email    string
	Username string
	Status   int64     // 1 may log in; -1: not said
	State    int64     // 1 is approved; -1: not said
	Locked   time.Time // until then; zero: not said
	Unread   bool      // a lock is said, in a way that is not known
	Roles    []int64
}

// wireUser is a User as version 2 writes it.
type wireUser struct {
	ID          Number          `json:"id"`
	Email       text            `json:"email"`
	Username    text            `json:"username"`
	Status      *Number         `json:"status"`
	State       *Number         `json:"state"`
	LockedUntil text            `json:"locked_until"`
	RoleIDs     json.RawMessage `json:"role_ids"`
}

func (w wireUser) user() User {
	u := User{ID: int64(w.ID), Email: string(w.Email), Username: string(w.Username), Status: -1, State: -1}
	if w.Status != nil {
		u.Status = int64(*w.Status)
	}
	if w.State != nil {
		u.State = int64(*w.State)
	}
	if w.LockedUntil != "" {
		at, err := time.Parse(time.RFC3339, string(w.LockedUntil))
		u.Locked, u.Unread = at, err != nil
	}
	// Roles that cannot be read are none: that lets nobody in.
	if roles, err := decodeList[Number](w.RoleIDs); err == nil {
		for _, id := range roles {
			u.Roles = append(u.Roles, int64(id))
		}
	}
	return u
}

// UsersByEmail returns the users that the tenant finds by an email address. It
// may be wider than asked for: compare.
func (t *Tenant) UsersByEmail(ctx context.Context, email string) ([]User, error) {
	return t.users(ctx, usersByEmail, &models.UserQuery{Email: &email})
}

// UsersByUsername is [Tenant.UsersByEmail] for usernames.
func (t *Tenant) UsersByUsername(ctx context.Context, username string) ([]User, error) {
	return t.users(ctx, usersByUsername, &models.UserQuery{Username: &username})
}

func (t *Tenant) users(ctx context.Context, op operation, query *models.UserQuery) ([]User, error) {
	list, err := request[wireUser](ctx, t, op, func(sdk *onelogin.OneloginSDK) error {
		_, err := sdk.GetUsersWithContext(ctx, query)
		return err
	})
	if err != nil {
		return nil, err
	}
	users := make([]User, 0, len(list))
	for _, w := range list {
		if w.ID <= 0 {
			return nil, garbage(op)
		}
		users = append(users, w.user())
	}
	return users, nil
}

// User returns a user with status, state and roles as they are now.
func (t *Tenant) User(ctx context.Context, id int64) (User, error) {
	list, err := request[wireUser](ctx, t, userByID, func(sdk *onelogin.OneloginSDK) error {
		_, err := sdk.GetUserByIDWithContext(ctx, int(id), nil)
		return err
	})
	if err != nil {
		return User{}, err
	}
	if len(list) != 1 || int64(list[0].ID) != id {
		return User{}, garbage(userByID)
	}
	return list[0].user(), nil
}

// A Device is a factor that a user has enrolled.
type Device struct {
	ID      int64
	Factor  string // auth_factor_name: "OneLogin", "SMS", "Google Authenticator"
	Default bool
}

// Devices returns the user's active factors, in the tenant's order.
func (t *Tenant) Devices(ctx context.Context, user int64) ([]Device, error) {
	type wireDevice struct {
		ID      text  `json:"device_id"`
		Factor  text  `json:"auth_factor_name"`
		Default flag  `json:"default"`
		Active  *flag `json:"active"`
	}
	list, err := request[wireDevice](ctx, t, devices, func(sdk *onelogin.OneloginSDK) error {
		_, err := sdk.GetEnrolledFactor(int(user))
		return err
	})
	if err != nil {
		return nil, err
	}
	var all []Device
	for _, w := range list {
		id, err := strconv.ParseInt(string(w.ID), 10, strconv.IntSize)
		if err != nil || id <= 0 || (w.Active != nil && !*w.Active) {
			continue // not one that could be asked for, or not in use
		}
		all = append(all, Device{ID: id, Factor: string(w.Factor), Default: bool(w.Default)})
	}
	return all, nil
}

// A Verification is something sent to a user that waits for them.
type Verification struct {
	ID string
}

// Life is how long what is sent is good: the shortest that OneLogin offers.
const Life = 120 * time.Second

// Trigger sends a push or a code to the user's device, once.
func (t *Tenant) Trigger(ctx context.Context, user int64, device Device) (Verification, error) {
	type wireVerification struct {
		ID     text   `json:"id"`
		User   Number `json:"user_id"`
		Device text   `json:"device_id"`
	}
	list, err := request[wireVerification](ctx, t, trigger, func(sdk *onelogin.OneloginSDK) error {
		_, err := sdk.ActivateMFAFactor(int(user), models.ActivateFactorRequest{
			DeviceID: int(device.ID), ExpiresIn: int(Life.Seconds()),
		})
		return err
	})
	if err != nil {
		return Verification{}, err
	}
	if len(list) != 1 {
		return Verification{}, garbage(trigger)
	}
	w := list[0]
	if (w.User != 0 && int64(w.User) != user) || device.isNot(w.Device) || !isVerificationID(string(w.ID)) {
		return Verification{}, garbage(trigger)
	}
	return Verification{ID: string(w.ID)}, nil
}

// isNot reports whether id, where it is said at all, is another device's.
func (d Device) isNot(id text) bool {
	return id != "" && string(id) != strconv.FormatInt(d.ID, 10)
}

// isVerificationID reports whether id may stand in a path: a UUID, or what else
// is made of its characters.
func isVerificationID(id string) bool {
	return plain(id) && len(id) <= 64 && strings.Trim(id, "0123456789abcdefABCDEF-") == ""
}

// An Outcome is what a user has made of a push.
type Outcome int

// The outcomes of a [Verification].
const (
	Waiting Outcome = iota
	Accepted
	Rejected
	Expired
)

// Poll asks what the user has made of v.
func (t *Tenant) Poll(ctx context.Context, user int64, device Device, v Verification) (Outcome, error) {
	type wireState struct {
		ID     text `json:"id"`
		Device text `json:"device_id"`
		Status text `json:"status"`
	}
	list, err := request[wireState](ctx, t, poll, func(sdk *onelogin.OneloginSDK) error {
		path := verificationPath(user, v)
		_, err := sdk.Client.GetWithContext(ctx, &path, nil) //nolint:bodyclose // doer has read and closed it
		return err
	})
	switch {
	case Is(err, Pending):
		return Waiting, nil
	case Is(err, NotFound):
		return Expired, nil
	case err != nil:
		return Waiting, err
	case len(list) != 1:
		return Waiting, garbage(poll)
	}
	w := list[0]
	if string(w.ID) != v.ID || device.isNot(w.Device) {
		return Waiting, garbage(poll)
	}
	switch strings.ToLower(string(w.Status)) {
	case "accepted":
		return Accepted, nil
	case "rejected":
		return Rejected, nil
	case "expired":
		return Expired, nil
	case "pending":
		return Waiting, nil
	}
	return Waiting, garbage(poll)
}

func verificationPath(user int64, v Verification) string {
	return fmt.Sprintf("/api/2/mfa/users/%d/verifications/%s", user, v.ID)
}

// VerifyCode submits a code for the user's device, once, and returns nil if it
// is right: an [Error] of kind [Unauthorized] says that it is wrong. v is what
// was sent to that device in this call, or empty.
func (t *Tenant) VerifyCode(ctx context.Context, user int64, device Device, v Verification, code string) error {
	if code == "" { // would send something instead
		return &Error{Op: verify.name, Kind: Unauthorized}
	}
	return t.submit(ctx, verify, func(sdk *onelogin.OneloginSDK) error {
		if v.ID == "" {
			_, err := sdk.ActivateMFAFactor(int(user), models.ActivateFactorRequest{DeviceID: int(device.ID), OTP: code})
			return err
		}
		path := verificationPath(user, v)
		request := models.VerificationFactorRequest{OTP: code, DeviceID: int(device.ID)}
		_, err := sdk.Client.PutWithContext(ctx, &path, request) //nolint:bodyclose // doer has read and closed it
		return err
	})
}

// VerifyPassword submits a user's password, once, and returns nil if it is
// right: an [Error] of kind [Unauthorized] says that it is wrong.
func (t *Tenant) VerifyPassword(ctx context.Context, subdomain, name, secret string) error {
	return t.submit(ctx, password, func(sdk *onelogin.OneloginSDK) error {
		_, err := sdk.CreateSessionLoginToken(models.CreateSessionLoginRequest{
			UsernameOrEmail: name, Password: secret, Subdomain: subdomain,
		})
		return err
	})
}

// submit wants an envelope that says "success", in so many words.
func (t *Tenant) submit(ctx context.Context, op operation, call func(*onelogin.OneloginSDK) error) error {
	var out answer
	if err := call(t.sdk(ctx, op, &out)); err != nil {
		return err
	}
	if !success(out.body) {
		return &Error{Op: op.name, Kind: Garbage, Status: out.status}
	}
	return nil
}

// success reports whether body is an envelope that says so in all it says.
func success(body []byte) bool {
	type reply struct {
		Status json.RawMessage `json:"status"`
	}
	type status struct {
		Type  string `json:"type"`
		Error *bool  `json:"error"`
		Code  Number `json:"code"`
	}
	r, err := decodeExactly[reply](body)
	if err != nil {
		return false
	}
	s, err := decodeExactly[status](r.Status)
	return err == nil && s.Type == "success" && s.Error != nil && !*s.Error && s.Code == 200
}

// garbage is an answer of another shape than the API's.
func garbage(op operation) error {
	return &Error{Op: op.name, Kind: Garbage, Status: http.StatusOK}
}

// request has the SDK make one request and reads the answer as a list.
func request[T any](ctx context.Context, t *Tenant, op operation, call func(*onelogin.OneloginSDK) error) ([]T, error) {
	var out answer
	if err := call(t.sdk(ctx, op, &out)); err != nil {
		return nil, err
	}
	list, err := decodeList[T](out.body)
	if err != nil {
		return nil, &Error{Op: op.name, Kind: Garbage, Status: out.status}
	}
	return list, nil
}
