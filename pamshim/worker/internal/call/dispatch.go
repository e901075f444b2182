// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/plugin"
	"github.com/pam-authn/pam-authn/authn/plugin/wire"
	"github.com/pam-authn/pam-authn/pamshim/frame"
	"github.com/pam-authn/pam-authn/pamshim/worker/internal/config"
	"github.com/pam-authn/pam-authn/pamshim/worker/internal/journal"
	"github.com/pam-authn/pam-authn/pamshim/worker/internal/launch"
	"github.com/pam-authn/pam-authn/pamshim/worker/internal/limits"
	"github.com/pam-authn/pam-authn/pamshim/worker/internal/paths"
)

var errNotOffered = errors.New("the provider does not offer this call")

// dispatch makes the call. What a provider does not offer is ignored, which
// refuses where nothing else in the stack decides, except for setcred, whose
// refusal would undo a login.
func (c *Call) dispatch(ctx context.Context, a authn.Authenticator) (authn.Identity, error) {
	req := c.request()
	none := authn.Identity{}
	switch authn.Call(c.Start.Call) {
	case authn.CallAuthenticate:
		return a.Authenticate(ctx, req, c.conv)
	case authn.CallAccount:
		if m, ok := authn.As[authn.AccountManager](a); ok {
			return none, m.CheckAccount(ctx, req, c.conv)
		}
	case authn.CallSetCred:
		m, ok := authn.As[authn.CredentialSetter](a)
		if !ok {
			return none, nil
		}
		return none, m.SetCredentials(ctx, req, credentialOp(c.Start.Flags))
	case authn.CallOpenSession, authn.CallCloseSession:
		if m, ok := authn.As[authn.SessionManager](a); ok {
			return none, c.session(ctx, m, req)
		}
	case authn.CallPassword:
		if m, ok := authn.As[authn.PasswordChanger](a); ok {
			return none, c.password(ctx, m, req)
		}
	}
	return none, fmt.Errorf("%w: %w", errNotOffered, authn.ErrIgnore)
}

func (c *Call) session(ctx context.Context, m authn.SessionManager, req *authn.Request) error {
	if authn.Call(c.Start.Call) == authn.CallOpenSession {
		return m.OpenSession(ctx, req, c.conv)
	}
	return m.CloseSession(ctx, req)
}

func (c *Call) password(ctx context.Context, m authn.PasswordChanger, req *authn.Request) error {
	if c.Start.Flags&frame.PrelimCheck != 0 {
		return m.CanChangePassword(ctx, req)
	}
	return m.ChangePassword(ctx, req, c.conv)
}

func credentialOp(flags uint32) authn.CredentialOp {
	switch {
	case flags&frame.DeleteCred != 0:
		return authn.Delete
	case flags&frame.ReinitializeCred != 0:
		return authn.Reinitialize
	case flags&frame.RefreshCred != 0:
		return authn.Refresh
	}
	return authn.Establish
}

func (c *Call) request() *authn.Request {
	s := c.Start
	req := &authn.Request{
		Service: s.Service, User: s.User, RHost: s.RHost, TTY: s.TTY, RUser: s.RUser,
		Args:    c.line.Args,
		Ticket:  s.Ticket,
		Files:   c.files(),
		Silent:  s.Flags&frame.Silent != 0,
		Expired: s.Flags&frame.ChangeExpiredAuthtok != 0,
		Timeout: c.line.Timeout,
	}
	if s.Claimed {
		req.ClaimedSubject = strings.ToValidUTF8(s.Subject, "?")
	} else {
		req.Subject = s.Subject
	}
	return req
}

// plainUser is a user name that can be part of a path. It is compiled when it is
// wanted: what is done at start-up is done at every login.
var plainUser = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$`)
})

// maxFiles bounds all of authn.files together: with the configuration, they are
// one message on the wire.
const maxFiles = 80 << 10

// files reads authn.files for this user. What cannot be had is absent and
// logged: refusing here would tell accounts apart before any prompt.
func (c *Call) files() map[string][]byte {
	files, size := map[string][]byte{}, 0
	for _, name := range slices.Sorted(maps.Keys(c.config.Framework.Files)) {
		path := c.config.Framework.Files[name]
		if strings.Contains(path, "%u") {
			if !plainUser().MatchString(c.Start.User) {
				c.Journal.Debugf("authn.files.%s: the user's name cannot be part of a path", name)
				continue
			}
			path = strings.ReplaceAll(path, "%u", c.Start.User)
		}
		data, err := config.ReadFile(path)
		if size += len(data); size > maxFiles {
			err = fmt.Errorf("with the files before it, %s has more than %d bytes", path, maxFiles)
		}
		switch {
		case errors.Is(err, os.ErrNotExist):
			c.Journal.Debugf("authn.files.%s: there is no such file", name)
		case err != nil:
			c.Journal.Line(journal.Warning, "provider", c.line.Name, "log", c.conv.redact(fmt.Sprintf("authn.files.%s: %v", name, err)))
		default:
			files[name] = data
		}
	}
	return files
}

// withLimits lets the provider count uses in root's store.
func withLimits(ctx context.Context, provider string) context.Context {
	return plugin.WithAllow(ctx, func(_ context.Context, key string, n int, window time.Duration) (bool, error) {
		if os.Geteuid() != 0 {
			return false, errors.New("uses are counted by root only, and this application runs as a user")
		}
		if n < 1 || n > authn.MaxAllowCount || window <= 0 || window > authn.MaxAllowWindow || len(key) > authn.MaxAllowKey {
			return false, errors.New("a limit out of bounds")
		}
		if err := launch.EnsureDir(paths.State, 0o700); err != nil {
			return false, err
		}
		store := limits.Store{Dir: paths.State}
		return store.Allow(provider+"\x00"+key, n, window)
	})
}

// providerLog passes on a line of the provider's.
func (c *Call) providerLog(level wire.Level, text string) {
	levels := map[wire.Level]journal.Level{
		wire.Level_LEVEL_DEBUG: journal.Debug, wire.Level_LEVEL_WARN: journal.Warning, wire.Level_LEVEL_ERROR: journal.Err,
	}
	l, ok := levels[level]
	if !ok {
		l = journal.Info
	}
	c.Journal.Line(l, "provider", c.line.Name, "log", c.conv.redact(text))
}
