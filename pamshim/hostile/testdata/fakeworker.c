/* SPDX-FileCopyrightText: The pam-authn authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A worker that does not speak as it should. The name of its file says how: a
 * worker gets no arguments. It reads the module's START first, unless told
 * not to.
 */
#include "../../frame/frame.h"

#include <fcntl.h>
#include <security/pam_modules.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FRAMES = 3 };

static struct frame f;

static void nap(long ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * 1000000};

	(void)nanosleep(&t, NULL);
}

/* put sends bytes, whether anybody reads them or not. */
static void put(const void *bytes, size_t len)
{
	const char *at = bytes;

	while (len > 0) {
		ssize_t n = send(FRAMES, at, len, MSG_NOSIGNAL);

		if (n <= 0)
			exit(1);
		at += n;
		len -= (size_t)n;
	}
}

static void put_frame(void)
{
	(void)frame_end(&f);
	put(f.data, f.len);
}

/* get reads a frame. */
static void get(void)
{
	uint8_t header[FRAME_HEADER];
	size_t len;

	if (recv(FRAMES, header, sizeof(header), MSG_WAITALL) != (ssize_t)sizeof(header))
		exit(1);
	len = frame_length(header);
	if (recv(FRAMES, f.data, len, MSG_WAITALL) != (ssize_t)len)
		exit(1);
}

static void begin_result(uint32_t code, const char *subject, uint32_t variables)
{
	frame_begin(&f, FRAME_RESULT);
	frame_put_u32(&f, code);
	frame_put_string(&f, subject);
	frame_put(&f, "ticket", 6);
	frame_put_u32(&f, variables);
}

static void begin_conv(uint32_t messages)
{
	frame_begin(&f, FRAME_CONV);
	frame_put_u32(&f, messages);
}

static void message(uint32_t style, const char *text)
{
	frame_put_u32(&f, style);
	frame_put_string(&f, text);
}

static void succeed(void)
{
	begin_result(PAM_SUCCESS, "mallory", 1);
	frame_put_string(&f, "AUTHN_DOOR=open");
	put_frame();
}

/* What should be success, so that a refusal has the reason it should have. */
static void well_behaved(void)
{
	begin_conv(2);
	message(PAM_TEXT_INFO, "hello");
	message(PAM_PROMPT_ECHO_OFF, "Password: ");
	put_frame();
	get();
	succeed();
}

static void success_then_lingers(void)
{
	succeed();
	for (;;)
		(void)pause();
}

static void success_byte_by_byte(void)
{
	begin_result(PAM_SUCCESS, "mallory", 0);
	(void)frame_end(&f);
	for (size_t i = 0; i < f.len; i++) {
		put(f.data + i, 1);
		nap(1);
	}
}

/* Success, and more processes than a page of /proc names. */
static void success_with_a_thousand_children(void)
{
	for (int i = 0; i < 1000; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			if (i % 2 == 0)
				(void)setsid();
			if (i % 10 == 0 && fork() > 0)
				_exit(0);
			for (;;)
				(void)pause();
		}
	}
	succeed();
}

static void success_with_a_descriptor(void)
{
	char control[CMSG_SPACE(sizeof(int))] = {0};
	int fd = open("/dev/null", O_RDONLY);
	struct iovec io = {f.data, 0};
	struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	begin_result(PAM_SUCCESS, "mallory", 0);
	(void)frame_end(&f);
	io.iov_len = f.len;
	(void)sendmsg(FRAMES, &m, 0);
}

static void exits(void)
{
}

static void aborts(void)
{
	abort();
}

static void stops(void)
{
	(void)kill(getpid(), SIGSTOP);
}

static void is_silent(void)
{
	for (;;)
		(void)pause();
}

static void length(uint32_t n)
{
	uint8_t bytes[4] = {(uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n};

	put(bytes, sizeof(bytes));
	for (size_t i = 0; i < 70000; i++)
		f.data[i % sizeof(f.data)] = FRAME_RESULT;
	put(f.data, sizeof(f.data));
}

static void length_zero(void)
{
	length(0);
}
static void length_64k_and_1(void)
{
	length(FRAME_MAX + 1);
}
static void length_4g(void)
{
	length(0xffffffff);
}
static void length_64k_of_garbage(void)
{
	length(FRAME_MAX);
}

static void half_a_header_then_exits(void)
{
	put("\0\0", 2);
}

static void half_a_frame_then_exits(void)
{
	begin_result(PAM_SUCCESS, "mallory", 0);
	(void)frame_end(&f);
	put(f.data, f.len - 7);
}

static void half_a_frame_then_silence(void)
{
	half_a_frame_then_exits();
	is_silent();
}

static void slow_drip(void)
{
	begin_result(PAM_SUCCESS, "mallory", 0);
	(void)frame_end(&f);
	for (size_t i = 0; i < f.len; i++) {
		put(f.data + i, 1);
		nap(300);
	}
}

static void of_type(uint8_t type)
{
	begin_result(PAM_SUCCESS, "mallory", 0);
	f.data[FRAME_HEADER] = type;
	put_frame();
}

static void type_unknown(void)
{
	of_type(99);
}
static void type_zero(void)
{
	of_type(0);
}
static void type_start(void)
{
	of_type(FRAME_START);
}
static void type_reply(void)
{
	of_type(FRAME_REPLY);
}
static void result_as_conv(void)
{
	of_type(FRAME_CONV);
}

static void type_alone(void)
{
	frame_begin(&f, FRAME_RESULT);
	put_frame();
}

static void conv_of_nothing(void)
{
	begin_conv(0);
	put_frame();
}

static void conv_of_33(void)
{
	begin_conv(33);
	for (int i = 0; i < 33; i++)
		message(PAM_TEXT_INFO, "x");
	put_frame();
}

static void conv_of_4g(void)
{
	begin_conv(0xffffffff);
	message(PAM_TEXT_INFO, "x");
	put_frame();
}

static void conv_with_fewer_than_said(void)
{
	begin_conv(3);
	message(PAM_TEXT_INFO, "x");
	put_frame();
}

static void conv_with_more_than_said(void)
{
	begin_conv(1);
	message(PAM_TEXT_INFO, "x");
	message(PAM_TEXT_INFO, "x");
	put_frame();
}

static void conv_of_unknown_style(void)
{
	begin_conv(1);
	message(77, "x");
	put_frame();
}

static void conv_with_a_nul(void)
{
	begin_conv(1);
	frame_put_u32(&f, PAM_TEXT_INFO);
	frame_put(&f, "a\0b", 3);
	put_frame();
}

/* A field that ends where it should not: 7 bytes of text announced as n. */
static void field_announced_as(uint8_t n)
{
	begin_conv(1);
	message(PAM_TEXT_INFO, "text no");
	f.data[f.len - 9] = n;
	put_frame();
}

static void field_past_the_end(void)
{
	field_announced_as(200);
}
static void field_without_its_nul(void)
{
	field_announced_as(3);
}

static void field_of_4g(void)
{
	begin_conv(1);
	message(PAM_TEXT_INFO, "text no");
	memset(f.data + f.len - 12, 0xff, 4);
	put_frame();
}

/* Never ends, and hears no answer. */
static void conv_flood(void)
{
	for (;;) {
		begin_conv(1);
		message(PAM_TEXT_INFO, "flood");
		put_frame();
	}
}

/* Never ends, but reads the answers. */
static void conv_for_ever(void)
{
	for (;;) {
		begin_conv(1);
		message(PAM_TEXT_INFO, "again");
		put_frame();
		get();
	}
}

static void asks_and_exits(void)
{
	begin_conv(1);
	message(PAM_PROMPT_ECHO_OFF, "Password: ");
	put_frame();
}

static void result_of(uint32_t code)
{
	begin_result(code, "mallory", 0);
	put_frame();
}

static void result_new_authtok_reqd(void)
{
	result_of(PAM_NEW_AUTHTOK_REQD);
}
static void result_session_err(void)
{
	result_of(PAM_SESSION_ERR);
}
static void result_module_unknown(void)
{
	result_of(PAM_MODULE_UNKNOWN);
}
static void result_incomplete(void)
{
	result_of(PAM_INCOMPLETE);
}
static void result_32(void)
{
	result_of(32);
}
static void result_minus_1(void)
{
	result_of(0xffffffff);
}

static void success_without_a_subject(void)
{
	begin_result(PAM_SUCCESS, "", 0);
	put_frame();
}

static void subject_with_a_nul(void)
{
	frame_begin(&f, FRAME_RESULT);
	frame_put_u32(&f, PAM_SUCCESS);
	frame_put(&f, "mal\0lory", 8);
	frame_put(&f, "ticket", 6);
	frame_put_u32(&f, 0);
	put_frame();
}

static void with_variable(const char *variable)
{
	begin_result(PAM_SUCCESS, "mallory", 1);
	frame_put_string(&f, variable);
	put_frame();
}

static void variable_ld_preload(void)
{
	with_variable("LD_PRELOAD=/tmp/x.so");
}
static void variable_without_a_value(void)
{
	with_variable("AUTHN_DOOR");
}
static void variable_empty(void)
{
	with_variable("");
}

static void variables_41(void)
{
	begin_result(PAM_SUCCESS, "mallory", 41);
	for (int i = 0; i < 41; i++)
		frame_put_string(&f, "AUTHN_DOOR=open");
	put_frame();
}

static void result_with_a_tail(void)
{
	begin_result(PAM_SUCCESS, "mallory", 0);
	frame_put_string(&f, "tail");
	put_frame();
}

static void code_of_three_bytes(void)
{
	frame_begin(&f, FRAME_RESULT);
	frame_put(&f, "\0\0\0", 3);
	frame_put_string(&f, "mallory");
	frame_put(&f, "ticket", 6);
	frame_put_u32(&f, 0);
	put_frame();
}

static void never_reads(void)
{
	is_silent();
}

#define CASE(name)                                                                                                     \
	{                                                                                                              \
#name, name                                                                                            \
	}
static const struct {
	const char *name;
	void (*play)(void);
} cases[] = {
	CASE(well_behaved),
	CASE(success_then_lingers),
	CASE(success_byte_by_byte),
	CASE(success_with_a_thousand_children),
	CASE(success_with_a_descriptor),
	CASE(exits),
	CASE(aborts),
	CASE(stops),
	CASE(is_silent),
	CASE(length_zero),
	CASE(length_64k_and_1),
	CASE(length_4g),
	CASE(length_64k_of_garbage),
	CASE(half_a_header_then_exits),
	CASE(half_a_frame_then_exits),
	CASE(half_a_frame_then_silence),
	CASE(slow_drip),
	CASE(type_unknown),
	CASE(type_zero),
	CASE(type_start),
	CASE(type_reply),
	CASE(result_as_conv),
	CASE(type_alone),
	CASE(conv_of_nothing),
	CASE(conv_of_33),
	CASE(conv_of_4g),
	CASE(conv_with_fewer_than_said),
	CASE(conv_with_more_than_said),
	CASE(conv_of_unknown_style),
	CASE(conv_with_a_nul),
	CASE(field_past_the_end),
	CASE(field_without_its_nul),
	CASE(field_of_4g),
	CASE(conv_flood),
	CASE(conv_for_ever),
	CASE(asks_and_exits),
	CASE(result_new_authtok_reqd),
	CASE(result_session_err),
	CASE(result_module_unknown),
	CASE(result_incomplete),
	CASE(result_32),
	CASE(result_minus_1),
	CASE(success_without_a_subject),
	CASE(subject_with_a_nul),
	CASE(variable_ld_preload),
	CASE(variable_without_a_value),
	CASE(variable_empty),
	CASE(variables_41),
	CASE(result_with_a_tail),
	CASE(code_of_three_bytes),
	CASE(never_reads),
};

int main(void)
{
	char path[256];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	const char *name;

	path[n > 0 ? n : 0] = '\0';
	name = strrchr(path, '/');
	if (name == NULL)
		return 2;
	if (strcmp(name + 1, "never_reads") != 0)
		get();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (strcmp(cases[i].name, name + 1) == 0)
			cases[i].play();
	}
	return 0;
}
