/* SPDX-FileCopyrightText: The pam-authn authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* A PAM application with bad habits, and what it says about itself. */
#ifndef HOST_H
#define HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { CHANNEL = 3, MARKER = 50, EXIT_CODE = 42 };

/* host.c: say writes a line to the test, and hold waits until the test lets
 * us go on. */
__attribute__((format(printf, 1, 2))) void say(const char *format, ...);
void hold(void);
_Noreturn void fail(const char *what);

/* state.c: state reports everything of this process that a call must not
 * change, as lines "WHEN NAME VALUE". */
void state(const char *when);
extern const char *proc; /* where proc is mounted */

/* child.c: a child of the host's own. child_begin starts it; child_end lets
 * it end, waits for it as this host does, and reports how that went. */
void child_begin(void);
void child_end(void);
extern volatile int sigchld; /* how many were heard; -1: not counted */

/* traits.c: what kind of host this is. traits_enter takes a list of them,
 * NAME or NAME=VALUE with commas between. begin and quiet are called around a
 * call of PAM, prompt in its conversation. */
void traits_enter(const char *list);
void traits_begin(void);
void traits_prompt(void);
void traits_quiet(void);
extern bool host_waits, host_reaps, host_ignores, host_deaf;
extern bool fresh_threads;    /* each call in a thread of its own */
extern size_t stack_size;     /* of that thread; 0: the usual */
extern unsigned cancel_after; /* microseconds, of that thread; 0: never */
extern bool leaves;           /* the thread ends in its conversation */
extern bool mute;             /* the conversation succeeds without an answer */

#endif
