/* SPDX-FileCopyrightText: The pam-authn authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * usage: host TRAITS CONFDIR SERVICE USER CALLS [REPEAT]
 *
 * Makes the calls (a for authenticate, s setcred, m acct_mgmt, o open_session,
 * c close_session, p chauthtok) in one transaction and tells the test on
 * descriptor 3, line by line:
 *
 *   before NAME VALUE, after NAME VALUE    the state around a call
 *   pause before CALL                      waits for a byte
 *   prompt STYLE TEXT                      likewise; then answers
 *   result CALL CODE MS SIGCHLD STACK
 *   pause after CALL                       waits for a byte
 *   child WHAT                             how the host's own child ended
 *   memory KILOBYTES                       after each transaction
 *   end CODE
 */
#include "host.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <pthread.h>
#include <security/pam_appl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

static const char answer[] = "open sesame";

_Noreturn void fail(const char *what)
{
	say("fail %s: %s", what, strerror(errno));
	_exit(99);
}

void say(const char *format, ...)
{
	static char line[1 << 16]; /* not on the stack: that may be small */
	va_list args;
	size_t len, sent = 0;

	va_start(args, format);
	(void)vsnprintf(line, sizeof(line) - 1, format, args);
	va_end(args);
	for (char *c = line; *c != '\0'; c++) {
		if (*c == '\n')
			*c = ' ';
	}
	len = strlen(line);
	line[len++] = '\n';
	while (sent < len) {
		ssize_t n = send(CHANNEL, line + sent, len - sent, MSG_NOSIGNAL);

		if (n > 0)
			sent += (size_t)n;
		else if (errno != EINTR)
			_exit(98); /* the test is gone */
	}
}

void hold(void)
{
	char c;
	ssize_t n;

	do
		n = read(CHANNEL, &c, 1);
	while (n < 0 && errno == EINTR);
	if (n != 1)
		_exit(98);
}

static int converse(int count, const struct pam_message **messages, struct pam_response **out, void *data)
{
	struct pam_response *r = calloc((size_t)count, sizeof(*r));

	(void)data;
	if (r == NULL)
		return PAM_BUF_ERR;
	if (leaves || cancel_after != 0) {
		free(r);
		if (leaves)
			pthread_exit(NULL);
		for (;;)
			(void)pause(); /* until we are cancelled */
	}
	for (int i = 0; i < count; i++) {
		int style = messages[i]->msg_style;

		say("prompt %d %s", style, messages[i]->msg);
		hold();
		traits_prompt();
		if (!mute && (style == PAM_PROMPT_ECHO_OFF || style == PAM_PROMPT_ECHO_ON))
			r[i].resp = strdup(answer);
	}
	*out = r;
	return PAM_SUCCESS;
}

static int make_call(pam_handle_t *pamh, char which)
{
	switch (which) {
	case 'a':
		return pam_authenticate(pamh, 0);
	case 's':
		return pam_setcred(pamh, PAM_ESTABLISH_CRED);
	case 'm':
		return pam_acct_mgmt(pamh, 0);
	case 'o':
		return pam_open_session(pamh, 0);
	case 'c':
		return pam_close_session(pamh, 0);
	default:
		return pam_chauthtok(pamh, 0);
	}
}

static const char *name_of(char which)
{
	static const char *const names[] = {"authenticate", "setcred",       "acct_mgmt",
					    "open_session", "close_session", "chauthtok"};
	const char *letters = "asmocp", *at = strchr(letters, which);

	return at != NULL ? names[at - letters] : "?";
}

static long now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* One call, as the thread that makes it needs to know it. */
struct job {
	pam_handle_t *pamh;
	char which;
	int code;
	uint8_t *stack; /* lowest byte of the thread's, or NULL */
	long ms;
	size_t depth;
	atomic_bool begun;
};

static const uint8_t paint = 0xa5;

/* used reports how deep the calls went below here. The stack was painted. */
static size_t used(const struct job *j, const uint8_t *here)
{
	const uint8_t *p = j->stack;

	while (p != NULL && p < here && *p == paint)
		p++;
	return p != NULL ? (size_t)(here - p) : 0;
}

static void finish(struct job *j)
{
	traits_quiet();
	state("after");
	say("result %s %d %ld %d %zu", name_of(j->which), j->code, j->ms, sigchld, j->depth);
	say("pause after %s", name_of(j->which));
	hold();
}

static void *run_job(void *data)
{
	struct job *j = data;
	uint8_t here = 0;

	state("before");
	say("pause before %s", name_of(j->which));
	hold();
	traits_begin();
	if (j->stack != NULL)
		memset(j->stack, paint, (size_t)(&here - j->stack) - 512);
	j->ms = now_ms();
	atomic_store(&j->begun, true);
	j->code = make_call(j->pamh, j->which);
	j->ms = now_ms() - j->ms;
	j->depth = used(j, &here);
	pthread_testcancel();
	finish(j);
	return j;
}

/* in_thread makes the call in a thread that ends with it, or before. */
static void in_thread(struct job *j)
{
	pthread_attr_t attr;
	pthread_t thread;
	void *end = NULL;
	size_t size = stack_size != 0 ? stack_size : 1 << 20;
	void *stack = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);

	if (stack == MAP_FAILED)
		fail("mmap");
	j->stack = stack_size != 0 ? stack : NULL;
	(void)pthread_attr_init(&attr);
	if ((errno = pthread_attr_setstack(&attr, stack, size)) != 0 ||
	    (errno = pthread_create(&thread, &attr, run_job, j)) != 0)
		fail("thread");
	if (cancel_after != 0) {
		while (!atomic_load(&j->begun))
			(void)usleep(100);
		(void)usleep(cancel_after);
		(void)pthread_cancel(thread);
	}
	(void)pthread_join(thread, &end);
	if (end != j) {
		j->code = PAM_ABORT;
		finish(j);
	}
	(void)pthread_attr_destroy(&attr);
	(void)munmap(stack, size);
}

/* memory_in_use is the size of this process's data, in kilobytes. */
static long memory_in_use(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	long pages = 0;

	if (f != NULL) {
		if (fscanf(f, "%*d %*d %*d %*d %*d %ld", &pages) != 1)
			pages = 0;
		(void)fclose(f);
	}
	return pages * 4;
}

static int transaction(char **argv)
{
	static const struct pam_conv conv = {converse, NULL};
	pam_handle_t *pamh = NULL;
	int code = pam_start_confdir(argv[3], argv[4], &conv, argv[2], &pamh);

	if (code != PAM_SUCCESS)
		fail("pam_start_confdir");
	for (const char *c = argv[5]; *c != '\0'; c++) {
		struct job j = {.pamh = pamh, .which = *c};

		child_begin();
		if (fresh_threads)
			in_thread(&j);
		else
			(void)run_job(&j);
		child_end();
		code = j.code;
	}
	code = pam_end(pamh, code);
	say("memory %ld", memory_in_use());
	return code;
}

/* set_up opens what a call must leave alone, and must not hand on. */
static void set_up(void)
{
	int marker;

	(void)fcntl(CHANNEL, F_SETFD, FD_CLOEXEC);
	(void)setlocale(LC_ALL, "");
	openlog("host", LOG_NDELAY, LOG_AUTHPRIV);
	marker = open("/etc/hostname", O_RDONLY);
	if (marker >= 0 && dup2(marker, MARKER) >= 0)
		(void)close(marker);
}

int main(int argc, char **argv)
{
	int repeat = argc > 6 ? atoi(argv[6]) : 1, code = 0;

	if (argc < 6)
		return 2;
	set_up();
	traits_enter(argv[1]);
	for (int i = 0; i < repeat; i++)
		code = transaction(argv);
	say("end %d", code);
	return 0;
}
