// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogintest

import (
	"slices"
	"time"
)

// stateTokenLife is how long a state token of the v1 API lives.
const stateTokenLife = 120 * time.Second

// listDevices1 answers GET /api/1/users/:id/otp_devices (reference, v1, Get
// Enrolled Authentication Factors): inactive ones, too.
func (s *Server) listDevices1(c *call) answer {
	u := s.byID(c.id(0))
	if u == nil {
		return noUser1(c)
	}
	list := []any{}
	for i := range u.Devices {
		d := &u.Devices[i]
		k := kindOf(d)
		list = append(list, s.deviceObject1(d, k.push || k.sends))
		if k.push && s.variants.ProtectTwice {
			list = append(list, s.deviceObject1(d, false))
		}
	}
	if s.variants.ReverseLists {
		slices.Reverse(list)
	}
	return jsonAnswer(200, object{
		"status": object{"error": false, "code": 200, "type": "success", "message": "Success"},
		"data":   object{"otp_devices": list},
	})
}

func (s *Server) deviceObject1(d *Device, trigger bool) object {
	return s.decorate(object{
		"id": s.number(d.ID), "active": !d.Inactive, "default": d.Default, "auth_factor_name": d.Factor,
		"type_display_name": displayName(d.Factor), "user_display_name": d.Name, "needs_trigger": trigger,
	})
}

// device1 finds user and device of a v1 call.
func (s *Server) device1(c *call) (*User, *Device, answer, bool) {
	u := s.byID(c.id(0))
	if u == nil {
		return nil, nil, envelopeError(400, "bad request", "User does not exist"), false
	}
	d := device(u, c.args[1])
	if d == nil || d.Inactive {
		return nil, nil, envelopeError(404, "Not Found", "Device not found"), false
	}
	if !s.usable(u) {
		return nil, nil, envelopeError(401, "Unauthorized", "User is not active"), false
	}
	return u, d, answer{}, true
}

// trigger1 answers POST /api/1/users/:id/otp_devices/:id/trigger (reference,
// v1, Activate an Authentication Factor).
func (s *Server) trigger1(c *call) answer {
	u, d, a, ok := s.device1(c)
	if !ok {
		return a
	}
	ch := s.challenge(c, u, d, stateTokenLife, true)
	data := []any{s.decorate(object{
		"id": s.number(d.ID), "active": true, "default": d.Default, "auth_factor_name": d.Factor,
		"type_display_name": displayName(d.Factor), "user_display_name": d.Name, "state_token": ch.id,
	})}
	return statusEnvelope(200, "success", pendingMessage(ch.sent), data)
}

func pendingMessage(sent string) string {
	switch sent {
	case "sms":
		return "SMS token sent to your mobile device. Authentication pending."
	case "push":
		return "Authentication pending on OL Protect"
	case "":
		return "Success"
	}
	return "Token sent. Authentication pending."
}

// verify1 answers POST /api/1/users/:id/otp_devices/:id/verify (reference, v1,
// Verify an Authentication Factor). A push that nobody has decided about is a
// 401 with "Authentication pending".
func (s *Server) verify1(c *call) answer {
	u, d, a, ok := s.device1(c)
	if !ok {
		return a
	}
	var ch *challenge
	if c.has("state_token") {
		if ch = s.challengeOf(u.ID, c.text("state_token")); ch == nil || ch.device != d.ID {
			return envelopeError(400, "bad request", "State token is invalid or has expired")
		}
	}
	if c.has("otp_token") || !kindOf(d).push {
		if !s.check(u, d, ch, c.text("otp_token")) {
			return envelopeError(401, "Unauthorized", "Failed authentication with this factor")
		}
		return envelope(nil)
	}
	if ch == nil {
		s.challenge(c, u, d, stateTokenLife, true)
		return envelopeError(401, "Unauthorized", "Authentication pending on OL Protect")
	}
	switch s.poll(ch) {
	case Accepted:
		return envelope(nil)
	case Refused:
		return envelopeError(401, "Unauthorized", "Failed authentication with this factor")
	}
	return envelopeError(401, "Unauthorized", "Authentication pending on OL Protect")
}
