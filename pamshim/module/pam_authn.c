/* SPDX-FileCopyrightText: The pam-authn authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * pam_authn.so hands each call of PAM to a worker of its own and returns what
 * that says. It lives inside sshd, sudo and whatever else uses PAM, so it has
 * no thread, no static state and no library but libpam and libc, and leaves
 * nothing behind. Only a RESULT frame that says so is success.
 */
#include "module.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* apply makes a result take effect. What a login gets (environment, ticket,
 * subject) it gets only with success. */
static int apply(struct call *c, const struct frame_result *r)
{
	if (!frame_allowed(c->type, r->code)) {
		c->reason = "the worker's result is not one of this call";
		return PAM_SYSTEM_ERR;
	}
	if (r->code == PAM_SUCCESS && c->type == FRAME_AUTHENTICATE) {
		if (r->subject[0] == '\0') {
			c->reason = "success without a subject";
			return PAM_SYSTEM_ERR;
		}
		if (host_set_environment(c->pamh, r) != 0 || memory_keep(c->memory, r) != 0) {
			host_clear_environment(c->pamh); /* all of it or nothing */
			c->reason = "out of memory";
			return PAM_SYSTEM_ERR;
		}
	}
	return (int)r->code;
}

/* serve answers one frame of the worker. Returns true while the call goes on,
 * and otherwise sets *code. */
static bool serve(struct call *c, int *code)
{
	const uint8_t *body = c->frame->data + FRAME_HEADER + 1;
	size_t len = c->frame->len - FRAME_HEADER - 1;
	struct frame_conv conv;
	struct frame_result result;

	*code = PAM_SYSTEM_ERR;
	switch (c->frame->data[FRAME_HEADER]) {
	case FRAME_CONV:
		if (++c->exchanges > EXCHANGES) {
			c->reason = "the worker asks without end";
			return false;
		}
		if (frame_parse_conv(body, len, &conv))
			return host_converse(c, &conv) == 0;
		break;
	case FRAME_RESULT:
		if (frame_parse_result(body, len, &result)) {
			*code = apply(c, &result);
			return false;
		}
		break;
	default:
		break;
	}
	c->reason = "garbage from the worker";
	return false;
}

/* converse runs the call to its end. */
static int converse(struct call *c)
{
	int code = PAM_SYSTEM_ERR;

	if (host_start_frame(c) != 0 || worker_start(c) != 0 || relay_send(c) != 0)
		return PAM_SYSTEM_ERR;
	do {
		if (relay_receive(c) != 0)
			return PAM_SYSTEM_ERR;
	} while (serve(c, &code));
	return code;
}

/* prepare fills in what needs memory. Returns PAM_SUCCESS if there was. */
static int prepare(struct call *c)
{
	bool fresh = c->type == FRAME_AUTHENTICATE;

	if (fresh)
		host_clear_environment(c->pamh);
	c->memory = memory_get(c->pamh, &c->words, fresh);
	c->frame = calloc(1, sizeof(*c->frame));
	c->left_ms = c->words.timeout_ms + 2000;
	relay_watch(c);
	return c->memory != NULL && c->frame != NULL ? PAM_SUCCESS : PAM_BUF_ERR;
}

void call_end(void *call)
{
	struct call *c = call;

	worker_stop(c);
	if (c->frame != NULL)
		frame_wipe(c->frame);
	free(c->frame);
	c->frame = NULL;
}

static int run(pam_handle_t *pamh, enum frame_call type, int flags, int argc, const char **argv)
{
	struct call c = {.pamh = pamh, .type = type, .flags = flags, .argc = argc, .argv = argv};
	int code = PAM_SYSTEM_ERR;

	c.worker = (struct worker){.socket = -1, .control = -1};
	words_parse(&c.words, argc, argv);
	/* PAM calls setcred behind every auth line, sshd kills the session if
	 * it fails, and most providers have nothing to set. */
	if (type == FRAME_SETCRED && !c.words.setcred)
		return PAM_SUCCESS;
	/* A cancelled thread would leave the worker behind. */
	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &c.cancel);
	if (prepare(&c) == PAM_SUCCESS)
		code = converse(&c);
	else
		c.reason = "out of memory, or the words of the line are too long";
	worker_stop(&c);
	if (c.interrupted)
		code = PAM_CONV_ERR;
	if (c.reason != NULL) {
		host_log(&c);
		if (!c.interrupted)
			host_say(&c);
	}
	call_end(&c);
	(void)pthread_setcancelstate(c.cancel, NULL);
	return code;
}

PAM_EXTERN __attribute__((visibility("default"))) int pam_sm_authenticate(pam_handle_t *pamh, int flags, int argc,
									  const char **argv)
{
	return run(pamh, FRAME_AUTHENTICATE, flags, argc, argv);
}

PAM_EXTERN __attribute__((visibility("default"))) int pam_sm_setcred(pam_handle_t *pamh, int flags, int argc,
								     const char **argv)
{
	return run(pamh, FRAME_SETCRED, flags, argc, argv);
}

PAM_EXTERN __attribute__((visibility("default"))) int pam_sm_acct_mgmt(pam_handle_t *pamh, int flags, int argc,
								       const char **argv)
{
	return run(pamh, FRAME_ACCOUNT, flags, argc, argv);
}

PAM_EXTERN __attribute__((visibility("default"))) int pam_sm_open_session(pam_handle_t *pamh, int flags, int argc,
									  const char **argv)
{
	return run(pamh, FRAME_OPEN_SESSION, flags, argc, argv);
}

PAM_EXTERN __attribute__((visibility("default"))) int pam_sm_close_session(pam_handle_t *pamh, int flags, int argc,
									   const char **argv)
{
	return run(pamh, FRAME_CLOSE_SESSION, flags, argc, argv);
}

PAM_EXTERN __attribute__((visibility("default"))) int pam_sm_chauthtok(pam_handle_t *pamh, int flags, int argc,
								       const char **argv)
{
	return run(pamh, FRAME_PASSWORD, flags, argc, argv);
}
