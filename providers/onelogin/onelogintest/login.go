// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogintest

import (
	"crypto/subtle"
	"strconv"
	"time"
)

// sessionTokenLife is how long a session token lives.
const sessionTokenLife = 2 * time.Minute

// login answers POST /api/1/login/auth (reference, Create Session Login Token).
func (s *Server) login(c *call) answer {
	for _, key := range []string{"username_or_email", "password", "subdomain"} {
		if !c.has(key) {
			return envelopeError(400, "bad request", "Input parameter "+key+" is missing")
		}
	}
	u := s.find(c.text("username_or_email"))
	if u == nil {
		return noLogin()
	}
	if why := s.refusal(u); why != "" {
		return envelopeError(401, "Unauthorized", why)
	}
	right := u.Password != "" && subtle.ConstantTimeCompare([]byte(u.Password), []byte(c.text("password"))) == 1
	s.attempt(u, right)
	if !right {
		return noLogin()
	}
	if u.LoginMFA {
		return s.loginNeedsFactor(c, u)
	}
	return s.session(u)
}

func noLogin() answer {
	return envelopeError(401, "Unauthorized", "Authentication Failed: Invalid user credentials")
}

// refusal is why a user may not log in, or "".
func (s *Server) refusal(u *User) string {
	switch {
	case u.Status == Locked || u.LockedUntil.After(s.now()):
		return "User is locked. Access is unauthorized"
	case u.Status == Suspended:
		return "User is suspended. Access is unauthorized"
	case u.Status == PasswordExpired:
		return "Password is expired"
	case u.Status != Active || u.State != Approved:
		return "User is not active. Access is unauthorized"
	}
	return ""
}

func (s *Server) session(u *User) answer {
	return envelope([]any{s.decorate(object{
		"status": "Authenticated", "session_token": randomHex(20), "return_to_url": nil,
		"expires_at": stamp(s.now().Add(sessionTokenLife)), "user": s.loginUser(u),
	})})
}

func (s *Server) loginUser(u *User) object {
	return object{"id": s.number(u.ID), "email": orNull(u.Email), "username": orNull(u.Username), "firstname": "A", "lastname": "Person"}
}

// loginNeedsFactor is the answer to a right password that is not enough.
func (s *Server) loginNeedsFactor(c *call, u *User) answer {
	ch := s.challenge(c, u, nil, stateTokenLife, false)
	ch.login = true
	devices := []any{}
	for _, d := range u.Devices {
		if !d.Inactive {
			devices = append(devices, object{"device_type": displayName(d.Factor), "device_id": d.ID})
		}
	}
	return statusEnvelope(200, "success", "MFA is required for this user", []any{s.decorate(object{
		"state_token": ch.id, "user": s.loginUser(u), "devices": devices,
		// Nobody should follow this: the log shows who does.
		"callback_url": s.URL + "/callback_url_was_followed",
	})})
}

// loginFactor answers POST /api/1/login/verify_factor (reference, Verify
// Factor). A push that nobody has decided about is 200 and pending.
func (s *Server) loginFactor(c *call) answer {
	ch := s.loginChallenge(c.text("state_token"))
	if ch == nil {
		return envelopeError(401, "Unauthorized", "Authentication Failed: Invalid or expired state token")
	}
	u := s.byID(ch.user)
	if u == nil {
		return noLogin()
	}
	d := device(u, c.text("device_id"))
	if d == nil || d.Inactive || s.refusal(u) != "" {
		return noLogin()
	}
	if c.has("otp_token") {
		ch.device = d.ID
		if !s.check(u, d, ch, c.text("otp_token")) {
			return envelopeError(401, "Unauthorized", "Failed authentication with this factor")
		}
		return s.endLogin(ch, u)
	}
	return s.loginPending(c, ch, u, d)
}

func (s *Server) loginChallenge(stateToken string) *challenge {
	for _, ch := range s.challenges {
		if ch.login && ch.id == stateToken && ch.alive(s.now()) {
			return ch
		}
	}
	return nil
}

// loginPending triggers a factor, or polls what was triggered.
func (s *Server) loginPending(c *call, ch *challenge, u *User, d *Device) answer {
	first := ch.sent == "" || ch.device != d.ID
	if notify, _ := strconv.ParseBool(boolText(c.fields["do_not_notify"])); !notify && first {
		ch.device, ch.polls, ch.decision, ch.byHand = d.ID, 0, PushDecision{}, Ignored
		s.send(c, ch, u, kindOf(d))
		return statusEnvelope(200, "pending", pendingMessage(ch.sent), nil)
	}
	if ch.sent == "push" {
		switch s.poll(ch) {
		case Accepted:
			return s.endLogin(ch, u)
		case Refused:
			return envelopeError(401, "Unauthorized", "Failed authentication with this factor")
		}
	}
	return statusEnvelope(200, "pending", pendingMessage(ch.sent), nil)
}

// endLogin uses the state token up.
func (s *Server) endLogin(ch *challenge, u *User) answer {
	ch.expires = s.now()
	s.attempt(u, true)
	return s.session(u)
}

func boolText(v any) string {
	switch v := v.(type) {
	case bool:
		return strconv.FormatBool(v)
	case string:
		return v
	}
	return "false"
}
