/* SPDX-FileCopyrightText: The pam-authn authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the module and the worker say to each other.
 *
 * A frame is u32 length, u8 type, body; length counts type and body and is at
 * most FRAME_MAX. A body is a row of fields, and a field is u32 length, the
 * bytes, one NUL. The NUL is not counted; it makes a field a C string where it
 * lies. A number is a field of four bytes. Numbers are big-endian.
 *
 *   START   module to worker, once: FRAME_VERSION, call, flags, bits, host's
 *           pid, id, service, user, rhost, tty, ruser, authtok, subject,
 *           ticket, number of words, the words
 *   CONV    worker to module: number of messages, for each: style, text
 *   REPLY   module to worker: PAM's code, number of answers, the answers
 *   RESULT  worker to module, last: PAM's code, subject, ticket, number of
 *           variables, the variables as NAME=VALUE
 *
 * This codec exists once: the module compiles it, and the worker reaches it
 * through cgo.
 */
#ifndef AUTHN_FRAME_H
#define AUTHN_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	FRAME_VERSION = 1,
	FRAME_MAX = 64 * 1024,
	FRAME_HEADER = 4,
	FRAME_MESSAGES = 32, /* in one CONV */
	FRAME_VARIABLES = 40 /* in one RESULT */
};

enum frame_type { FRAME_START = 1, FRAME_CONV = 2, FRAME_REPLY = 3, FRAME_RESULT = 4 };

/* Calls have the numbers of authn.Call. */
enum frame_call {
	FRAME_AUTHENTICATE = 1,
	FRAME_SETCRED = 2,
	FRAME_ACCOUNT = 3,
	FRAME_OPEN_SESSION = 4,
	FRAME_CLOSE_SESSION = 5,
	FRAME_PASSWORD = 6
};

/* The bits of START. */
enum {
	FRAME_EXISTS = 1,     /* the account exists here */
	FRAME_HAS_TOKEN = 2,  /* authtok is the host's, even if empty */
	FRAME_CLAIMED = 4,    /* subject comes from the environment */
	FRAME_HAS_STDERR = 8, /* descriptor 4 is the host's stderr */
	FRAME_BITS = 15
};

/* A frame being written or read. The caller owns it; frame_wipe before free. */
struct frame {
	size_t len;                             /* bytes of data in use */
	bool bad;                               /* something did not fit */
	uint8_t data[FRAME_HEADER + FRAME_MAX]; /* header, type, body */
};

/* frame_begin starts a frame of the given type. */
void frame_begin(struct frame *f, enum frame_type type);

/* frame_put and frame_put_u32 append a field. What does not fit makes the
 * frame bad, and stays so. */
void frame_put(struct frame *f, const void *bytes, size_t len);
void frame_put_u32(struct frame *f, uint32_t value);

/* frame_put_string appends s, or an empty field for NULL. */
void frame_put_string(struct frame *f, const char *s);

/* frame_end writes the header. Returns false if the frame is bad. */
bool frame_end(struct frame *f);

/* frame_wipe clears what the frame held: there are passwords in frames. */
void frame_wipe(struct frame *f);

/* frame_length reads a header: the number of bytes that follow it, or 0 if
 * that is not between 1 and FRAME_MAX. */
size_t frame_length(const uint8_t header[FRAME_HEADER]);

/* A cursor over the fields of a body. */
struct cursor {
	const uint8_t *at, *end;
	bool bad; /* a field was missing or malformed */
};

/* A field as it lies in the frame, with a NUL behind it. */
struct field {
	const uint8_t *bytes;
	size_t len;
};

/* cursor_next reads a field, cursor_u32 a number, cursor_string a field
 * without a NUL in it. After the first failure all return nothing ("", 0). */
struct field cursor_next(struct cursor *c);
uint32_t cursor_u32(struct cursor *c);
const char *cursor_string(struct cursor *c);

/* cursor_done reports whether everything was read, and nothing else. */
bool cursor_done(const struct cursor *c);

struct frame_conv {
	uint32_t count; /* 1 to FRAME_MESSAGES */
	struct {
		uint32_t style;
		const char *text;
	} messages[FRAME_MESSAGES];
};

struct frame_result {
	uint32_t code;
	const char *subject;
	struct field ticket;
	uint32_t count;
	const char *variables[FRAME_VARIABLES];
};

/* Both parse a body (without type) and return false, with nothing in out to
 * be used, unless all of it is as it must be. out points into the body. */
bool frame_parse_conv(const uint8_t *body, size_t len, struct frame_conv *out);
bool frame_parse_result(const uint8_t *body, size_t len, struct frame_result *out);

/* frame_allowed reports whether PAM's code can be the outcome of call. Every
 * group's "required" takes new_authtok_reqd for success, so it may come from
 * the account call only. */
bool frame_allowed(uint32_t call, uint32_t code);

/* frame_duration reads a duration as Go writes it ("90s", "1m30s", "1.5s")
 * into milliseconds. Returns false, with *ms as it was, for anything else, for
 * more than three digits behind a point, for less than a millisecond and for
 * more than a day. */
bool frame_duration(const char *text, int64_t *ms);

#endif
