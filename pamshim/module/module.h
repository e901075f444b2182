/* SPDX-FileCopyrightText: The pam-authn authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What the files of the module share. One call of PAM is one struct call. */
#ifndef AUTHN_MODULE_H
#define AUTHN_MODULE_H

#include "../frame/frame.h"

#include <security/pam_modules.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#ifndef AUTHN_WORKER
#define AUTHN_WORKER "/usr/libexec/authn/authn-worker"
#endif

enum {
	ID_LENGTH = 6,  /* hex digits of a reference */
	EXCHANGES = 256 /* CONVs of one call: a provider may ask for 64, and the worker adds few */
};

/* The words of the PAM line that the module itself needs. The worker judges
 * all of them; a bad one refuses the call there. */
struct words {
	const char *provider, *config, *worker;
	int64_t timeout_ms;
	bool setcred, first_pass, log_stderr;
};

/* What this transaction remembers, in pam_data. */
struct memory {
	char id[ID_LENGTH + 1];
	char *subject;
	bool claimed; /* the subject comes from the environment */
	uint8_t *ticket;
	size_t ticket_len;
};

/* The worker and its waiter. */
struct worker {
	pid_t waiter; /* 0: none */
	int socket;   /* frames; -1: none */
	int control;  /* ends the waiter when closed; -1: none */
};

struct call {
	pam_handle_t *pamh;
	enum frame_call type;
	int flags;
	int argc;
	const char **argv;
	struct words words;
	struct memory *memory; /* owned by pamh */
	struct worker worker;
	int64_t left_ms;     /* machine time until the call is refused */
	int exchanges;       /* CONVs of the worker */
	int cancel;          /* the host's pthread_setcancelstate */
	sigset_t interrupts; /* signals that end the call */
	bool interrupted;    /* one of them has */
	struct frame *frame; /* the one in hand, in or out */
	const char *reason;  /* for the log, if the worker cannot log it */
	char why[640];       /* room for a reason */
};

/* call_end frees what a struct call owns: the worker with all its processes,
 * and the frame. Calling it twice does nothing. */
void call_end(void *call);

/* memory.c: what a transaction remembers. memory_get returns NULL only when
 * there is no memory. */
struct memory *memory_get(pam_handle_t *pamh, const struct words *words, bool fresh);
int memory_keep(struct memory *m, const struct frame_result *r);

/* host.c: everything that is asked of libpam and of the host. */
void words_parse(struct words *w, int argc, const char **argv);
int host_start_frame(struct call *c);
void host_clear_environment(pam_handle_t *pamh);
int host_set_environment(pam_handle_t *pamh, const struct frame_result *r);
int host_converse(struct call *c, const struct frame_conv *conv);
void host_say(struct call *c);
bool host_stderr_usable(void);
void host_log(struct call *c);

/* waiter.c: starting and ending the worker without the host noticing.
 * worker_start returns 0 or -1 with c->reason set. worker_stop returns only
 * when all processes of the call are gone. */
int worker_start(struct call *c);
void worker_stop(struct call *c);

/* relay.c: frames over the socket, within c->left_ms. Both return 0, or -1
 * with c->reason set. relay_watch chooses the signals that end the call. */
void relay_watch(struct call *c);
int relay_send(struct call *c);
int relay_receive(struct call *c);

/* now_ms is a clock that only goes forward. */
int64_t now_ms(void);

#endif
