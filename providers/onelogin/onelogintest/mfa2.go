// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogintest

import (
	"slices"
	"strconv"
	"time"
)

// How long a verification lives, in seconds (reference, v2, Activate a
// Factor).
const (
	minVerification     = 120
	maxVerification     = 900
	defaultVerification = 120
)

// deviceID is a device's id in the v2 API: a string in the pages.
func (s *Server) deviceID(id int64) any {
	if s.variants.NumericDeviceIDs {
		return id
	}
	return strconv.FormatInt(id, 10)
}

// one is a list of one object, or the object itself.
func (s *Server) one(o object) any {
	s.decorate(o)
	if s.variants.SingleObjects {
		return o
	}
	return []any{o}
}

// listDevices2 answers GET /api/2/mfa/users/:id/devices (reference, v2, Get
// Enrolled Authentication Factors): active ones only.
func (s *Server) listDevices2(c *call) answer {
	u := s.byID(c.id(0))
	if u == nil {
		return notFound()
	}
	if !s.usable(u) {
		return flatError(403, "ForbiddenAction", "User is not active")
	}
	list := []any{}
	for _, d := range u.Devices {
		if d.Inactive {
			continue
		}
		list = append(list, s.decorate(object{
			"device_id": s.deviceID(d.ID), "user_display_name": d.Name, "type_display_name": displayName(d.Factor),
			"auth_factor_name": d.Factor, "default": d.Default,
		}))
	}
	if s.variants.ReverseLists {
		slices.Reverse(list)
	}
	return jsonAnswer(200, list)
}

func displayName(factor string) string {
	if factor == Protect {
		return "OneLogin Protect"
	}
	return factor
}

// factorError is an error of verifications, in the form that the variant has.
func (s *Server) factorError(code int, name, message string) answer {
	if s.variants.PollEnvelope {
		return envelopeError(code, name, message)
	}
	return flatError(code, name, message)
}

// wrongCode is the answer of the v2 API to a wrong code.
func (s *Server) wrongCode() answer {
	const message = "Failed authentication with this factor"
	switch s.variants.WrongCode {
	case WrongEnvelope401:
		return envelopeError(401, "Unauthorized", message)
	case WrongFlat403:
		return flatError(403, "ForbiddenAction", message)
	}
	return flatError(401, "InvalidCredentials", message)
}

// postVerification answers POST /api/2/mfa/users/:id/verifications (reference,
// v2, Activate a Factor, and Verify a Factor without an id): with an otp it
// verifies, without one it triggers.
func (s *Server) postVerification(c *call) answer {
	u := s.byID(c.id(0))
	if u == nil {
		return s.factorError(404, "NotFoundError", "Not Found")
	}
	d := device(u, c.text("device_id"))
	if d == nil || d.Inactive {
		return s.factorError(404, "NotFoundError", "Device not found")
	}
	if !s.usable(u) {
		return s.factorError(403, "ForbiddenAction", "User is not active")
	}
	if _, ok := c.fields["otp"]; ok {
		if !s.check(u, d, nil, c.text("otp")) {
			return s.wrongCode()
		}
		return envelope(nil)
	}
	life, ok := verificationLife(c)
	if !ok {
		return s.factorError(400, "BadRequestError", "expires_in must be between 120 and 900")
	}
	ch := s.challenge(c, u, d, life, true)
	return jsonAnswer(201, s.one(object{
		"id": ch.id, "device_id": s.deviceID(d.ID), "user_id": s.number(u.ID), "expires_at": stamp(ch.expires),
		"user_display_name": d.Name, "type_display_name": displayName(d.Factor), "auth_factor_name": d.Factor,
	}))
}

func verificationLife(c *call) (time.Duration, bool) {
	seconds := defaultVerification
	if c.has("expires_in") {
		n, err := strconv.Atoi(c.text("expires_in"))
		if err != nil || n < minVerification || n > maxVerification {
			return 0, false
		}
		seconds = n
	}
	return time.Duration(seconds) * time.Second, true
}

// putVerification answers PUT /api/2/mfa/users/:id/verifications/:id
// (reference, v2, Verify a Factor).
func (s *Server) putVerification(c *call) answer {
	u := s.byID(c.id(0))
	if u == nil {
		return s.factorError(404, "NotFoundError", "Not Found")
	}
	ch := s.challengeOf(u.ID, c.args[1])
	if ch == nil {
		return s.factorError(404, "NotFoundError", "Verification not found")
	}
	id := c.text("device_id")
	d := device(u, strconv.FormatInt(ch.device, 10))
	switch {
	case d == nil || id != "" && device(u, id) != d:
		return s.factorError(404, "NotFoundError", "Device not found")
	case !s.usable(u):
		return s.factorError(403, "ForbiddenAction", "User is not active")
	case kindOf(d).push && !s.variants.ProtectByPUT:
		return s.factorError(403, "ForbiddenAction", "This factor cannot be verified with a code here")
	case kindOf(d).totp && id == "":
		return s.factorError(400, "BadRequestError", "device_id is required for authenticators")
	case !s.check(u, d, ch, c.text("otp")):
		return s.wrongCode()
	}
	return envelope(nil)
}

// getVerification answers GET /api/2/mfa/users/:id/verifications/:id
// (reference, v2, Verify a Factor by polling).
func (s *Server) getVerification(c *call) answer {
	u := s.byID(c.id(0))
	if u == nil {
		return s.factorError(404, "NotFoundError", "Not Found")
	}
	ch := s.challengeOf(u.ID, c.args[1])
	if ch == nil {
		return s.lostPush(u, c.args[1])
	}
	status := map[Outcome]string{Ignored: "pending", Accepted: "accepted", Refused: "rejected"}[s.poll(ch)]
	return s.verification(ch.id, status, ch.device)
}

func (s *Server) verification(id, status string, device int64) answer {
	return jsonAnswer(200, s.one(object{"id": id, "status": status, "device_id": s.deviceID(device)}))
}

// lostPush is what a poll hears of a verification that is not alive.
func (s *Server) lostPush(u *User, id string) answer {
	for _, ch := range s.challenges {
		if ch.user != u.ID || ch.id != id {
			continue
		}
		switch s.variants.LostPush {
		case LostPending:
			return s.verification(id, "pending", ch.device)
		case LostExpired:
			return s.verification(id, "expired", ch.device)
		}
	}
	return s.factorError(404, "NotFoundError", "Verification not found")
}
