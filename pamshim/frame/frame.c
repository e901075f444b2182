/* SPDX-FileCopyrightText: The pam-authn authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "frame.h"

#include <security/pam_modules.h>
#include <string.h>

static void store_u32(uint8_t out[4], uint32_t v)
{
	out[0] = (uint8_t)(v >> 24);
	out[1] = (uint8_t)(v >> 16);
	out[2] = (uint8_t)(v >> 8);
	out[3] = (uint8_t)v;
}

static uint32_t load_u32(const uint8_t in[4])
{
	return (uint32_t)in[0] << 24 | (uint32_t)in[1] << 16 | (uint32_t)in[2] << 8 | in[3];
}

void frame_begin(struct frame *f, enum frame_type type)
{
	f->len = FRAME_HEADER + 1;
	f->bad = false;
	f->data[FRAME_HEADER] = (uint8_t)type;
}

void frame_put(struct frame *f, const void *bytes, size_t len)
{
	if (f->bad || len > sizeof(f->data) - f->len || sizeof(f->data) - f->len - len < 5) {
		f->bad = true;
		return;
	}
	store_u32(f->data + f->len, (uint32_t)len);
	f->len += 4;
	if (len > 0)
		memcpy(f->data + f->len, bytes, len);
	f->len += len;
	f->data[f->len++] = 0;
}

void frame_put_u32(struct frame *f, uint32_t value)
{
	uint8_t bytes[4];

	store_u32(bytes, value);
	frame_put(f, bytes, sizeof(bytes));
}

void frame_put_string(struct frame *f, const char *s)
{
	frame_put(f, s, s != NULL ? strlen(s) : 0);
}

bool frame_end(struct frame *f)
{
	store_u32(f->data, (uint32_t)(f->len - FRAME_HEADER));
	return !f->bad;
}

void frame_wipe(struct frame *f)
{
	explicit_bzero(f->data, sizeof(f->data));
	f->len = 0;
}

size_t frame_length(const uint8_t header[FRAME_HEADER])
{
	uint32_t len = load_u32(header);

	return len >= 1 && len <= FRAME_MAX ? len : 0;
}

struct field cursor_next(struct cursor *c)
{
	struct field f = {(const uint8_t *)"", 0};
	size_t left = (size_t)(c->end - c->at), len;

	if (c->bad || left < 5)
		goto bad;
	len = load_u32(c->at);
	if (len > left - 5 || c->at[4 + len] != 0)
		goto bad;
	f.bytes = c->at + 4;
	f.len = len;
	c->at += 5 + len;
	return f;
bad:
	c->bad = true;
	return f;
}

uint32_t cursor_u32(struct cursor *c)
{
	struct field f = cursor_next(c);

	if (f.len != 4) {
		c->bad = true;
		return 0;
	}
	return load_u32(f.bytes);
}

const char *cursor_string(struct cursor *c)
{
	struct field f = cursor_next(c);

	if (f.len > 0 && memchr(f.bytes, 0, f.len) != NULL) {
		c->bad = true;
		return "";
	}
	return (const char *)f.bytes;
}

bool cursor_done(const struct cursor *c)
{
	return !c->bad && c->at == c->end;
}

static bool known_style(uint32_t style)
{
	return style == PAM_PROMPT_ECHO_OFF || style == PAM_PROMPT_ECHO_ON || style == PAM_ERROR_MSG ||
	       style == PAM_TEXT_INFO;
}

bool frame_parse_conv(const uint8_t *body, size_t len, struct frame_conv *out)
{
	struct cursor c = {body, body + len, false};

	memset(out, 0, sizeof(*out));
	out->count = cursor_u32(&c);
	if (out->count < 1 || out->count > FRAME_MESSAGES)
		return false;
	for (uint32_t i = 0; i < out->count; i++) {
		out->messages[i].style = cursor_u32(&c);
		out->messages[i].text = cursor_string(&c);
		if (!known_style(out->messages[i].style))
			return false;
	}
	return cursor_done(&c);
}

bool frame_parse_result(const uint8_t *body, size_t len, struct frame_result *out)
{
	struct cursor c = {body, body + len, false};

	memset(out, 0, sizeof(*out));
	out->code = cursor_u32(&c);
	out->subject = cursor_string(&c);
	out->ticket = cursor_next(&c);
	out->count = cursor_u32(&c);
	if (out->count > FRAME_VARIABLES)
		return false;
	for (uint32_t i = 0; i < out->count; i++) {
		const char *v = cursor_string(&c);

		if (strncmp(v, "AUTHN_", 6) != 0 || strchr(v, '=') == NULL)
			return false;
		out->variables[i] = v;
	}
	return cursor_done(&c);
}

bool frame_allowed(uint32_t call, uint32_t code)
{
	if (call < FRAME_AUTHENTICATE || call > FRAME_PASSWORD)
		return false;
	switch (code) {
	case PAM_SUCCESS:
	case PAM_SERVICE_ERR:
	case PAM_SYSTEM_ERR:
	case PAM_PERM_DENIED:
	case PAM_USER_UNKNOWN:
	case PAM_CONV_ERR:
	case PAM_IGNORE:
	case PAM_ABORT:
		return true;
	case PAM_AUTH_ERR:
	case PAM_AUTHINFO_UNAVAIL:
	case PAM_ACCT_EXPIRED:
		return call == FRAME_AUTHENTICATE || call == FRAME_ACCOUNT;
	case PAM_CRED_INSUFFICIENT:
	case PAM_MAXTRIES:
		return call == FRAME_AUTHENTICATE;
	case PAM_NEW_AUTHTOK_REQD:
		return call == FRAME_ACCOUNT;
	case PAM_SESSION_ERR:
		return call == FRAME_OPEN_SESSION || call == FRAME_CLOSE_SESSION;
	case PAM_CRED_UNAVAIL:
	case PAM_CRED_EXPIRED:
	case PAM_CRED_ERR:
		return call == FRAME_SETCRED;
	case PAM_AUTHTOK_ERR:
	case PAM_AUTHTOK_RECOVERY_ERR:
	case PAM_AUTHTOK_LOCK_BUSY:
	case PAM_AUTHTOK_DISABLE_AGING:
	case PAM_TRY_AGAIN:
		return call == FRAME_PASSWORD;
	default:
		return false;
	}
}
