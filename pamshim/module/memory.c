/* SPDX-FileCopyrightText: The pam-authn authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What one PAM transaction remembers of one pam_authn line. */
#include "module.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static void forget(struct memory *m)
{
	free(m->subject);
	m->subject = NULL;
	m->claimed = false;
	if (m->ticket != NULL)
		explicit_bzero(m->ticket, m->ticket_len);
	free(m->ticket);
	m->ticket = NULL;
	m->ticket_len = 0;
}

/* PAM's clean-up. It touches this process's memory only, so it needs not care
 * for PAM_DATA_SILENT, which says that a forked child is ending. */
static void cleanup(pam_handle_t *pamh, void *data, int status)
{
	(void)pamh;
	(void)status;
	if (data != NULL)
		forget(data);
	free(data);
}

static bool is_id(const char *s)
{
	return s != NULL && strlen(s) == ID_LENGTH && strspn(s, "0123456789abcdef") == ID_LENGTH;
}

/* new_id makes the reference that joins the lines of one attempt. */
static void new_id(char id[ID_LENGTH + 1])
{
	static const char digits[] = "0123456789abcdef";
	unsigned char random[ID_LENGTH] = {0};

	(void)!getrandom(random, sizeof(random), GRND_NONBLOCK); /* it is no secret */
	for (size_t i = 0; i < ID_LENGTH; i++)
		id[i] = digits[random[i] % 16];
	id[ID_LENGTH] = '\0';
}

/* key names the line: a provider with another configuration is another one. */
static int key(const struct words *w, char *out, size_t size)
{
	int n = snprintf(out, size, "pam_authn %s %s", w->provider, w->config);

	return n > 0 && (size_t)n < size ? 0 : -1;
}

struct memory *memory_get(pam_handle_t *pamh, const struct words *words, bool fresh)
{
	char name[2048];
	const void *old = NULL;
	struct memory *m;

	if (key(words, name, sizeof(name)) != 0)
		return NULL;
	if (!fresh && pam_get_data(pamh, name, &old) == PAM_SUCCESS && old != NULL)
		return (struct memory *)(uintptr_t)old; /* PAM keeps it const for us */
	m = calloc(1, sizeof(*m));
	if (m == NULL)
		return NULL;
	if (!fresh && is_id(pam_getenv(pamh, "AUTHN_ID")))
		memcpy(m->id, pam_getenv(pamh, "AUTHN_ID"), ID_LENGTH + 1);
	else
		new_id(m->id);
	if (pam_set_data(pamh, name, m, cleanup) == PAM_SUCCESS)
		return m;
	free(m);
	return NULL;
}

int memory_keep(struct memory *m, const struct frame_result *r)
{
	forget(m);
	m->subject = strdup(r->subject);
	m->ticket = malloc(r->ticket.len + 1);
	if (m->subject == NULL || m->ticket == NULL) {
		forget(m);
		return -1;
	}
	memcpy(m->ticket, r->ticket.bytes, r->ticket.len);
	m->ticket_len = r->ticket.len;
	return 0;
}
