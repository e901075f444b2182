// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"bytes"
	"sync"
)

// Head keeps the beginning of what a provider writes to standard error: a Go
// crash says there what happened before it says where.
type Head struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

const maxHead = 4 << 10

func (h *Head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.buf.Write(p[:min(len(p), maxHead-h.buf.Len())])
	return len(p), nil
}

// Len is how much is kept.
func (h *Head) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.buf.Len()
}

func (h *Head) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.buf.String()
}
