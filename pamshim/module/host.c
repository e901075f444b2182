/* SPDX-FileCopyrightText: The pam-authn authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Everything that is asked of libpam and of the host. */
#include "module.h"

#include <poll.h>
#include <pthread.h>
#include <security/pam_ext.h>
#include <security/pam_modutil.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

/* value returns what follows name in word, or NULL. */
static const char *value(const char *word, const char *name)
{
	size_t len = strlen(name);

	return strncmp(word, name, len) == 0 ? word + len : NULL;
}

void words_parse(struct words *w, int argc, const char **argv)
{
	*w = (struct words){.provider = "", .config = "", .worker = AUTHN_WORKER, .timeout_ms = 90000};
	for (int i = 0; i < argc; i++) {
		const char *v;

		if ((v = value(argv[i], "provider=")) != NULL)
			w->provider = v;
		else if ((v = value(argv[i], "config=")) != NULL)
			w->config = v;
		else if ((v = value(argv[i], "worker=")) != NULL)
			w->worker = v;
		else if ((v = value(argv[i], "timeout=")) != NULL)
			(void)frame_duration(v, &w->timeout_ms);
		else if (strcmp(argv[i], "setcred") == 0)
			w->setcred = true;
		else if (strcmp(argv[i], "log=stderr") == 0)
			w->log_stderr = true;
		else if (strcmp(argv[i], "try_first_pass") == 0 || strcmp(argv[i], "use_first_pass") == 0)
			w->first_pass = true;
	}
}

static const char *item(pam_handle_t *pamh, int type)
{
	const void *s = NULL;

	return pam_get_item(pamh, type, &s) == PAM_SUCCESS && s != NULL ? s : "";
}

/* user asks for the account where the host may not have yet. */
static const char *user(struct call *c)
{
	const char *name = NULL;
	int code;

	if (c->type != FRAME_AUTHENTICATE && c->type != FRAME_PASSWORD)
		return item(c->pamh, PAM_USER);
	pthread_cleanup_push(call_end, c);
	(void)pthread_setcancelstate(c->cancel, NULL);
	code = pam_get_user(c->pamh, &name, NULL);
	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &c->cancel);
	pthread_cleanup_pop(0);
	return code == PAM_SUCCESS && name != NULL ? name : "";
}

/* token is the password that the host already has, if the line lets us see
 * it: in the password group, the old one. */
static const char *token(struct call *c)
{
	const void *s = NULL;
	int type = c->type == FRAME_PASSWORD ? PAM_OLDAUTHTOK : PAM_AUTHTOK;

	if (!c->words.first_pass || pam_get_item(c->pamh, type, &s) != PAM_SUCCESS)
		return NULL;
	return s;
}

/* same_provider reports whether the environment speaks of this line's
 * provider: its name, or the base name of its path less "authn-". */
static bool same_provider(const char *word, const char *name)
{
	const char *slash = strrchr(word, '/');

	if (slash != NULL)
		word = strncmp(slash + 1, "authn-", 6) == 0 ? slash + 7 : slash + 1;
	return name != NULL && strcmp(word, name) == 0;
}

/* claim takes the subject from the environment where this process never
 * authenticated anybody. The user may have forged it, so it is marked, and a
 * session's end hears what its start heard. */
static void claim(struct call *c)
{
	const char *subject = pam_getenv(c->pamh, "AUTHN_SUBJECT");

	if (c->memory->subject != NULL || c->type == FRAME_CLOSE_SESSION || subject == NULL || strlen(subject) > 256 ||
	    !same_provider(c->words.provider, pam_getenv(c->pamh, "AUTHN_PROVIDER")))
		return;
	c->memory->subject = strdup(subject);
	c->memory->claimed = true;
}

static uint32_t bits(struct call *c, const char *name, const char *authtok)
{
	uint32_t b = 0;

	if (name[0] != '\0' && pam_modutil_getpwnam(c->pamh, name) != NULL)
		b |= FRAME_EXISTS;
	if (authtok != NULL)
		b |= FRAME_HAS_TOKEN;
	if (c->memory->claimed)
		b |= FRAME_CLAIMED;
	if (c->words.log_stderr && host_stderr_usable())
		b |= FRAME_HAS_STDERR;
	return b;
}

int host_start_frame(struct call *c)
{
	struct frame *f = c->frame;
	const char *name = user(c), *authtok = token(c);

	claim(c);
	frame_begin(f, FRAME_START);
	frame_put_u32(f, FRAME_VERSION);
	frame_put_u32(f, c->type);
	frame_put_u32(f, (uint32_t)c->flags);
	frame_put_u32(f, bits(c, name, authtok));
	frame_put_u32(f, (uint32_t)getpid());
	frame_put_string(f, c->memory->id);
	frame_put_string(f, item(c->pamh, PAM_SERVICE));
	frame_put_string(f, name);
	frame_put_string(f, item(c->pamh, PAM_RHOST));
	frame_put_string(f, item(c->pamh, PAM_TTY));
	frame_put_string(f, item(c->pamh, PAM_RUSER));
	frame_put_string(f, authtok);
	frame_put_string(f, c->memory->subject);
	frame_put(f, c->memory->ticket, c->memory->ticket_len);
	frame_put_u32(f, (uint32_t)c->argc);
	for (int i = 0; i < c->argc; i++)
		frame_put_string(f, c->argv[i]);
	if (!f->bad)
		return 0;
	c->reason = "what the host says does not fit into a frame";
	return -1;
}

void host_clear_environment(pam_handle_t *pamh)
{
	char **list = pam_getenvlist(pamh);

	for (char **v = list; v != NULL && *v != NULL; v++) {
		size_t len = strlen(*v);
		char *equals = strchr(*v, '=');

		if (equals != NULL && strncmp(*v, "AUTHN_", 6) == 0) {
			*equals = '\0'; /* a name alone deletes */
			(void)pam_putenv(pamh, *v);
		}
		explicit_bzero(*v, len);
		free(*v);
	}
	free(list);
}

int host_set_environment(pam_handle_t *pamh, const struct frame_result *r)
{
	for (uint32_t i = 0; i < r->count; i++) {
		if (pam_putenv(pamh, r->variables[i]) != PAM_SUCCESS)
			return -1;
	}
	return 0;
}

static void free_responses(struct pam_response *r, uint32_t count)
{
	for (uint32_t i = 0; r != NULL && i < count; i++) {
		if (r[i].resp != NULL)
			explicit_bzero(r[i].resp, strlen(r[i].resp));
		free(r[i].resp);
	}
	free(r);
}

/* ask shows messages through the host's conversation, which may end this
 * thread: then nothing of the call must stay. */
static int ask(struct call *c, const struct frame_conv *conv, struct pam_response **out)
{
	const void *item_conv = NULL;
	const struct pam_conv *host;
	struct pam_message messages[FRAME_MESSAGES];
	const struct pam_message *pointers[FRAME_MESSAGES];
	int code;

	*out = NULL;
	if (pam_get_item(c->pamh, PAM_CONV, &item_conv) != PAM_SUCCESS || item_conv == NULL)
		return PAM_CONV_ERR;
	host = item_conv;
	if (host->conv == NULL)
		return PAM_CONV_ERR;
	for (uint32_t i = 0; i < conv->count; i++) {
		messages[i].msg_style = (int)conv->messages[i].style;
		messages[i].msg = conv->messages[i].text;
		pointers[i] = &messages[i];
	}
	pthread_cleanup_push(call_end, c);
	(void)pthread_setcancelstate(c->cancel, NULL);
	code = host->conv((int)conv->count, pointers, out, host->appdata_ptr);
	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &c->cancel);
	pthread_cleanup_pop(0);
	return code;
}

/* complete reports whether every question has an answer: nothing is not the
 * empty one, with which somebody may ask for a push. */
static bool complete(const struct frame_conv *conv, const struct pam_response *answers)
{
	if (answers == NULL)
		return false;
	for (uint32_t i = 0; i < conv->count; i++) {
		int style = (int)conv->messages[i].style;

		if ((style == PAM_PROMPT_ECHO_ON || style == PAM_PROMPT_ECHO_OFF) && answers[i].resp == NULL)
			return false;
	}
	return true;
}

/* host_converse lets the user answer, which costs no machine time, and sends
 * the answers to the worker. */
int host_converse(struct call *c, const struct frame_conv *conv)
{
	struct pam_response *answers = NULL;
	uint32_t count = conv->count;
	int code = ask(c, conv, &answers);

	if (code == PAM_SUCCESS && !complete(conv, answers)) {
		free_responses(answers, count);
		code = PAM_CONV_ERR;
	}
	frame_begin(c->frame, FRAME_REPLY); /* conv's texts lay there */
	frame_put_u32(c->frame, (uint32_t)code);
	frame_put_u32(c->frame, code == PAM_SUCCESS ? count : 0);
	for (uint32_t i = 0; code == PAM_SUCCESS && i < count; i++)
		frame_put_string(c->frame, answers[i].resp);
	/* After a failure the host owns what it may have left in answers. */
	if (code == PAM_SUCCESS)
		free_responses(answers, count);
	return relay_send(c);
}

void host_say(struct call *c)
{
	struct frame_conv conv = {.count = 1};
	struct pam_response *answer = NULL;
	char text[160];

	if (((unsigned)c->flags & PAM_SILENT) != 0 || c->memory == NULL)
		return;
	(void)snprintf(text, sizeof(text), "This login is not possible at the moment (reference %s).", c->memory->id);
	conv.messages[0].style = PAM_ERROR_MSG;
	conv.messages[0].text = text;
	if (ask(c, &conv, &answer) == PAM_SUCCESS)
		free_responses(answer, 1);
}

/* A regular file is somebody's, not a log; under setuid all of it is the
 * caller's ("su 2>&1 | cat"); and a line to /dev/null would be lost, where
 * syslog may have it. */
bool host_stderr_usable(void)
{
	struct stat st;

	if (fstat(STDERR_FILENO, &st) != 0 || (!S_ISFIFO(st.st_mode) && !S_ISCHR(st.st_mode)))
		return false;
	if (S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3))
		return false;
	return getuid() == geteuid() && getgid() == getegid();
}

static const char *group(enum frame_call type)
{
	switch (type) {
	case FRAME_AUTHENTICATE:
		return "auth";
	case FRAME_SETCRED:
		return "setcred";
	case FRAME_ACCOUNT:
		return "account";
	case FRAME_OPEN_SESSION:
	case FRAME_CLOSE_SESSION:
		return "session";
	default:
		return "chauthtok";
	}
}

/* to_syslog writes to /dev/log by itself: syslog(3) would leave a descriptor
 * open in the host, and closing it would undo the host's openlog. A queue that
 * is full gets a second: it is as short as ten lines. */
static void to_syslog(const char *line)
{
	struct sockaddr_un log = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
	struct timeval wait = {.tv_sec = 1};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return;
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	(void)sendto(fd, line, strlen(line), MSG_NOSIGNAL, (struct sockaddr *)&log, sizeof(log));
	(void)close(fd);
}

/* to_stderr drops the line rather than waiting for a reader, and keeps a pipe
 * without one from killing the host. */
static void to_stderr(const char *line)
{
	struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};
	const struct timespec now = {0, 0};
	sigset_t broken, before, pending;

	(void)sigemptyset(&broken);
	(void)sigaddset(&broken, SIGPIPE);
	(void)pthread_sigmask(SIG_BLOCK, &broken, &before);
	(void)sigpending(&pending);
	if (poll(&p, 1, 0) == 1 && (p.revents & POLLOUT) != 0)
		(void)dprintf(STDERR_FILENO, "%s\n", line);
	if (sigismember(&pending, SIGPIPE) == 0)
		(void)sigtimedwait(&broken, NULL, &now);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* host_log writes the line of a call whose worker could not. Its words are
 * the administrator's and our own: nothing in it was typed at a prompt. */
void host_log(struct call *c)
{
	char line[1024], service[33] = "";
	const char *name = item(c->pamh, PAM_SERVICE), *words = c->words.provider;
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

	(void)snprintf(service, sizeof(service), "%.*s", n < 32 ? (int)n : 32, name);
	(void)snprintf(line, sizeof(line), "<%d>%s[%d]: pam_authn(%s:%s): provider=%.64s result=%s reason=\"%s\" id=%s",
		       LOG_AUTHPRIV | (c->interrupted ? LOG_NOTICE : LOG_ERR), service, (int)getpid(), service,
		       group(c->type), words, c->interrupted ? "conv_err" : "system_err", c->reason,
		       c->memory != NULL ? c->memory->id : "none");
	if (c->words.log_stderr && host_stderr_usable())
		to_stderr(strchr(line, '>') + 1);
	else
		to_syslog(line);
}
