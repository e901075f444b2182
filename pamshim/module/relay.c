/* SPDX-FileCopyrightText: The pam-authn authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Frames over the worker's socket, within the call's time. */
#include "module.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>

static int64_t now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ready waits until the socket takes or has bytes, and pays for it from the
 * call's time. */
static int ready(struct call *c, short events)
{
	struct pollfd p = {.fd = c->worker.socket, .events = events};
	int64_t start = now_ms(), left = c->left_ms;
	int n = -1;

	while (left > 0) {
		n = poll(&p, 1, left > 60000 ? 60000 : (int)left);
		if (n > 0 || (n < 0 && errno != EINTR))
			break;
		left = c->left_ms - (now_ms() - start);
	}
	c->left_ms -= now_ms() - start;
	if (n > 0)
		return 0;
	c->reason = n < 0 && left > 0 ? "poll failed" : "the worker did not answer in time";
	return -1;
}

int relay_send(struct call *c)
{
	size_t sent = 0;

	if (!frame_end(c->frame)) {
		c->reason = "what the host says does not fit into a frame";
		return -1;
	}
	while (sent < c->frame->len) {
		ssize_t n = send(c->worker.socket, c->frame->data + sent, c->frame->len - sent,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n > 0) {
			sent += (size_t)n;
		} else if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
			if (ready(c, POLLOUT) != 0)
				return -1;
		} else {
			c->reason = "the worker ended without an answer";
			return -1;
		}
	}
	frame_wipe(c->frame);
	return 0;
}

static int receive(struct call *c, uint8_t *to, size_t len)
{
	while (len > 0) {
		ssize_t n;

		if (ready(c, POLLIN) != 0)
			return -1;
		n = recv(c->worker.socket, to, len, MSG_DONTWAIT);
		if (n > 0) {
			to += n;
			len -= (size_t)n;
		} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
			c->reason = "the worker ended without an answer";
			return -1;
		}
	}
	return 0;
}

int relay_receive(struct call *c)
{
	size_t len;

	if (receive(c, c->frame->data, FRAME_HEADER) != 0)
		return -1;
	len = frame_length(c->frame->data);
	if (len == 0) {
		c->reason = "garbage from the worker";
		return -1;
	}
	if (receive(c, c->frame->data + FRAME_HEADER, len) != 0)
		return -1;
	c->frame->len = FRAME_HEADER + len;
	return 0;
}
