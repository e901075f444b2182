/* SPDX-FileCopyrightText: The pam-authn authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Feeds the codec what the module might be sent, under ASan and UBSan: each
 * file named on the command line, every part of it, and mutations of it, from
 * buffers that are not a byte longer than they say.
 *
 *	driver ROUNDS FILE...
 */
#include "frame.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_MAX = 4 + FRAME_MAX + 1, LONG = 4096 };

static unsigned long sink, parsed;

/* use reads what a parser pointed to. */
static void use(const void *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		sink += ((const unsigned char *)bytes)[i];
}

static void use_string(const char *s)
{
	use(s, strlen(s) + 1);
}

static void conv(const uint8_t *body, size_t len)
{
	struct frame_conv out;

	if (!frame_parse_conv(body, len, &out))
		return;
	parsed++;
	for (uint32_t i = 0; i < out.count; i++)
		use_string(out.messages[i].text);
}

static void result(const uint8_t *body, size_t len)
{
	struct frame_result out;

	if (!frame_parse_result(body, len, &out))
		return;
	parsed++;
	sink += frame_allowed(FRAME_AUTHENTICATE, out.code);
	use_string(out.subject);
	use(out.ticket.bytes, out.ticket.len + 1);
	for (uint32_t i = 0; i < out.count; i++)
		use_string(out.variables[i]);
}

/* cursors walks over the body with each way of reading a field, and on after
 * it has failed. */
static void cursors(const uint8_t *body, size_t len)
{
	for (int way = 0; way < 3; way++) {
		struct cursor c = {body, body + len, false};

		for (int after = 0; after < 3; after += c.bad || c.at == c.end) {
			struct field f;

			if (way == 0) {
				f = cursor_next(&c);
				use(f.bytes, f.len + 1);
			} else if (way == 1) {
				sink += cursor_u32(&c);
			} else {
				use_string(cursor_string(&c));
			}
		}
		parsed += cursor_done(&c);
	}
}

static void duration(const uint8_t *body, size_t len)
{
	char *text = malloc(len + 1);
	int64_t ms = -1;

	if (text == NULL)
		abort();
	memcpy(text, body, len);
	text[len] = '\0';
	if (frame_duration(text, &ms) ? ms <= 0 : ms != -1)
		abort();
	free(text);
}

/* feed gives an exactly sized copy of the body to every parser. */
static void feed(const uint8_t *from, size_t len)
{
	uint8_t *body = malloc(len);

	if (body == NULL && len > 0)
		abort();
	if (len > 0)
		memcpy(body, from, len);
	conv(body, len);
	result(body, len);
	cursors(body, len);
	duration(body, len < 64 ? len : 64);
	free(body);
}

static uint32_t random_u32(void)
{
	static uint64_t state = 0x9e3779b97f4a7c15;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 16);
}

/* one_by_one cuts the body after each byte and changes each byte. */
static void one_by_one(uint8_t *body, size_t len)
{
	static const uint8_t values[] = {0, 1, 4, 5, 0x7f, 0x80, 0xfb, 0xff};
	size_t step = len > LONG ? 997 : 1;

	for (size_t i = 0; i < len; i += step) {
		uint8_t old = body[i];

		feed(body, i);
		for (size_t v = 0; v < sizeof(values); v++) {
			body[i] = values[v];
			feed(body, len);
		}
		body[i] = old;
	}
}

/* at_random changes a few bytes and the length. */
static void at_random(const uint8_t *body, size_t len, long rounds)
{
	static const uint8_t values[] = {0, 0, 0, 1, 2, 3, 4, 5, 32, 33, 40, 41, 0x80, 0xff, 'A', '='};
	uint8_t copy[FILE_MAX + 8];

	for (long i = 0; i < rounds; i++) {
		size_t n = len + (random_u32() % 4 == 0 ? random_u32() % 8 : 0);

		memcpy(copy, body, len);
		for (size_t j = len; j < n; j++)
			copy[j] = values[random_u32() % sizeof(values)];
		for (uint32_t j = random_u32() % 6; n > 0 && j > 0; j--)
			copy[random_u32() % n] = values[random_u32() % sizeof(values)];
		feed(copy, n > 8 && random_u32() % 4 == 0 ? n - random_u32() % 8 : n);
	}
}

/* headers reads every length near a bound, and random ones. */
static void headers(void)
{
	for (uint32_t i = 0; i < 300000; i++) {
		uint32_t n = i < 200000 ? i : random_u32();
		uint8_t header[FRAME_HEADER] = {(uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n};
		size_t got = frame_length(header);

		if (got != (n >= 1 && n <= FRAME_MAX ? n : 0))
			abort();
	}
}

/* fill writes fields of every length up to and over what fits. */
static void fill(size_t first, size_t second)
{
	struct frame *f = malloc(sizeof(*f));
	char *bytes = calloc(1, first > second ? first + 1 : second + 1);
	bool fits = 1 + first + 5 + second + 5 <= FRAME_MAX, ended;

	if (f == NULL || bytes == NULL)
		abort();
	memset(f, 0xa5, sizeof(*f));
	frame_begin(f, FRAME_CONV);
	frame_put(f, bytes, first);
	frame_put(f, bytes, second);
	ended = frame_end(f);
	if (ended != fits || (ended && frame_length(f->data) != f->len - FRAME_HEADER))
		abort();
	frame_put_string(f, NULL);
	frame_put(f, NULL, 0);
	frame_put_u32(f, 1);
	if (!fits && frame_end(f))
		abort();
	frame_wipe(f);
	use(f->data, sizeof(f->data));
	free(bytes);
	free(f);
}

static void file(const char *path, long rounds)
{
	static uint8_t body[FILE_MAX];
	FILE *f = fopen(path, "rb");
	size_t len;

	if (f == NULL) {
		perror(path);
		exit(1);
	}
	len = fread(body, 1, sizeof(body), f);
	(void)fclose(f);
	feed(body, len);
	one_by_one(body, len);
	at_random(body, len, rounds);
}

int main(int argc, char **argv)
{
	static const size_t large[] = {0, 1, 5, FRAME_MAX - 11, FRAME_MAX, FRAME_MAX + 1, 1 << 20};

	for (int i = 2; i < argc; i++)
		file(argv[i], strtol(argv[1], NULL, 10));
	headers();
	for (size_t i = 0; i < 20; i++)
		fill(FRAME_MAX - 20, i);
	for (size_t i = 0; i < sizeof(large) / sizeof(large[0]); i++)
		fill(large[i], large[i]);
	/* The number of bodies that were as they must be: none would mean that
	 * nothing was tried. */
	(void)printf("%lu\n", parsed);
	return parsed > 0 && sink > 0 ? 0 : 1;
}
