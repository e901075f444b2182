// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package relay

import "sync"

// A registry knows the sockets of this node, and which of them holds an id or a
// loc. The two never look alike, so that one map has both.
type registry struct {
	mu       sync.Mutex
	sockets  map[*socket]struct{}
	held     map[string]*socket
	tokens   map[tokenHash]*usage
	draining bool
	idle     chan struct{} // closed when draining and without sockets
}

// usage is what one token has.
type usage struct{ sockets, pending int }

func (r *registry) init() {
	r.sockets = make(map[*socket]struct{})
	r.held = make(map[string]*socket)
	r.tokens = make(map[tokenHash]*usage)
	r.idle = make(chan struct{})
}

// admit counts one more socket of token, unless it has limit of them or none
// are taken any more. It must be followed by insert, or by dismiss.
func (r *registry) admit(token tokenHash, limit int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	u := r.tokens[token]
	if u == nil {
		u = &usage{}
	}
	if r.draining || u.sockets >= limit {
		return errLimit
	}
	u.sockets++
	r.tokens[token] = u
	return nil
}

// insert takes in an admitted socket, and reports whether it came too late and
// has to leave again.
func (r *registry) insert(k *socket) (draining bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sockets[k] = struct{}{}
	return r.draining
}

func (r *registry) remove(k *socket) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.releaseLocked(k)
	delete(r.sockets, k)
	r.dismissLocked(k.token)
}

func (r *registry) dismiss(token tokenHash) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dismissLocked(token)
}

func (r *registry) dismissLocked(token tokenHash) {
	u := r.tokens[token]
	if u.sockets--; u.sockets == 0 {
		delete(r.tokens, token)
	}
	r.checkIdleLocked()
}

// claim gives k the names, all or none of them: the first holder keeps them.
func (r *registry) claim(k *socket, names []string, limit int) (ok bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	u := r.tokens[k.token]
	if r.draining || u.pending >= limit {
		return false, errLimit
	}
	for _, name := range names {
		if r.held[name] != nil {
			return false, nil
		}
	}
	for _, name := range names {
		r.held[name] = k
	}
	u.pending++
	k.names = names
	return true, nil
}

// release takes k's names back, and reports whether it had any.
func (r *registry) release(k *socket) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.releaseLocked(k)
}

func (r *registry) releaseLocked(k *socket) bool {
	if k.names == nil {
		return false
	}
	for _, name := range k.names {
		delete(r.held, name)
	}
	k.names = nil
	r.tokens[k.token].pending--
	return true
}

func (r *registry) find(name string) *socket {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held[name]
}

func (r *registry) all() []*socket {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*socket, 0, len(r.sockets))
	for k := range r.sockets {
		all = append(all, k)
	}
	return all
}

// size returns the numbers of sockets and of pending logins.
func (r *registry) size() (sockets, pending int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, u := range r.tokens {
		pending += u.pending
	}
	return len(r.sockets), pending
}

func (r *registry) isDraining() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.draining
}

// drain takes no more sockets, and returns what is closed when the last is gone.
func (r *registry) drain() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.draining = true
	r.checkIdleLocked()
	return r.idle
}

func (r *registry) checkIdleLocked() {
	if !r.draining || len(r.tokens) > 0 {
		return
	}
	select {
	case <-r.idle:
	default:
		close(r.idle)
	}
}
