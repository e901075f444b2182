/* SPDX-FileCopyrightText: The pam-authn authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Frames over the worker's socket, within the call's time. */
#include "module.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

int64_t now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool has_terminal(void)
{
	int fd = open("/dev/tty", O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0)
		(void)close(fd);
	return fd >= 0;
}

/* Signals that ask the host to give up end the call, too: sudo blocks them or
 * only notes them, and would go on waiting for the provider. Those that the
 * host ignores, or did not heed before the call, do not count; nor does SIGHUP
 * where it is no terminal's. A session's end is told whatever happens. */
void relay_watch(struct call *c)
{
	static const int signals[] = {SIGINT, SIGQUIT, SIGTERM, SIGHUP};
	struct sigaction action;
	sigset_t pending;

	(void)sigemptyset(&c->interrupts);
	if (c->type == FRAME_CLOSE_SESSION || sigpending(&pending) != 0)
		return;
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		int sig = signals[i];

		if (sigaction(sig, NULL, &action) == 0 && action.sa_handler != SIG_IGN &&
		    sigismember(&pending, sig) == 0 && (sig != SIGHUP || has_terminal()))
			(void)sigaddset(&c->interrupts, sig);
	}
}

/* ready waits until the socket takes or has bytes, and pays for it from the
 * call's time. A signalfd can be read while a signal is pending: blocked by the
 * host, or about to be handled by it when poll returns. It is not read here,
 * so the host misses nothing. On the control channel the waiter says that the
 * worker is gone: the socket need not read as closed, since another child of
 * the host may hold a copy of the worker's end. */
static int ready(struct call *c, short events)
{
	struct pollfd p[3] = {{.fd = c->worker.socket, .events = events},
			      {.events = POLLIN},
			      {.fd = c->worker.control, .events = POLLIN}};
	int64_t start = now_ms(), left = c->left_ms;
	int n = -1;

	p[1].fd = signalfd(-1, &c->interrupts, SFD_CLOEXEC);
	while (left > 0) {
		n = poll(p, 3, left > 60000 ? 60000 : (int)left);
		if (n > 0 || (n < 0 && errno != EINTR))
			break;
		left = c->left_ms - (now_ms() - start);
	}
	c->left_ms -= now_ms() - start;
	if (p[1].fd >= 0)
		(void)close(p[1].fd);
	if (n > 0 && p[0].revents != 0)
		return 0;
	c->interrupted = n > 0 && p[1].revents != 0;
	if (c->interrupted)
		c->reason = "interrupted by a signal";
	else if (n > 0)
		c->reason = "the worker ended without an answer";
	else
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
