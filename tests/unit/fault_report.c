/* SPDX-License-Identifier: BSD-2-Clause */
/* The fault matrix as a page without scripts, and for programs (faults.h). */
#include "tests/unit/faults.h"
#include <stdio.h>
#include <string.h>

static const char head[] =
	"<!DOCTYPE html><html lang=\"en\"><meta charset=\"utf-8\"><title>tern: fault matrix</title>\n"
	"<style>body{font:14px sans-serif;margin:1em;max-width:110em}table{border-collapse:collapse;margin:.5em 0}"
	"td,th{border:1px solid #bbb;padding:2px 5px;text-align:left;vertical-align:top}.m td{text-align:center}"
	".m td:first-child{text-align:left}.S{background:#dfd}.D{background:#def}.U,.B,.P{background:#ffc}"
	".L,.O,.H,.W{background:#eee}.bad{background:#f99}.n{color:#999}</style>\n"
	"<h1>Fault matrix of the migration</h1>\n"
	"<p>Made by build/host/test_faults (HACKING.md). One row for each event, one column for each step at which it "
	"happens. s: from the event until every attempt is over, or the operator told; still: for how long the guest "
	"stood "
	"still, as the source says; both in the hosts' time, which nobody waits for. After each cell: one runner at "
	"most, its "
	"memory and registers are what the guest wrote, nothing is left on either host once the fault is healed, and "
	"the "
	"next migration works.</p>\n"
	"<p>S: runs at the source. D: runs at the destination. U: runs nowhere, the source is undecided and has told "
	"the "
	"operator. B: runs at the destination, and the source, which cannot know, is undecided and has told the "
	"operator. "
	"Of a VM that is paused or stopped S and D say where it is as it was, and may go on or start. "
	"L: lost with the host that had it. O: the guest is off by its own doing. In post-copy, P21 and P22: P: runs "
	"at "
	"the destination, and the source serves it, or tries to. H: runs at the destination, and what it lacks was "
	"lost with "
	"the source. W: lost with the destination, and what the source has waits for the operator. &middot;: no such "
	"cell, the reason "
	"is "
	"below. Red: not what is right.</p>\n";

static void text_html(FILE *f, const char *s)
{
	for (; *s; s++) {
		if (*s == '<' || *s == '>' || *s == '&')
			fprintf(f, "&#%d;", *s);
		else
			fputc(*s, f);
	}
}

static void text_json(FILE *f, const char *key, const char *s)
{
	fprintf(f, "\"%s\": \"", key);
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			fputc('\\', f);
		fputc((unsigned char)*s < ' ' ? ' ' : *s, f);
	}
	fputc('"', f);
}

static void matrix(FILE *f, const struct fault_cell *cells)
{
	fprintf(f, "<table class=\"m\"><tr><th></th>");
	for (unsigned s = 0; s < fault_nsteps; s++)
		fprintf(f, "<th title=\"%s\">%s</th>", fault_steps[s].where, fault_steps[s].name);
	for (unsigned e = 0; e < fault_nevents; e++) {
		fprintf(f, "</tr>\n<tr><td><a href=\"#e%u\">", e);
		text_html(f, fault_events[e].name);
		fprintf(f, "</a></td>");
		for (unsigned s = 0; s < fault_nsteps; s++) {
			const struct fault_cell *c = &cells[e * fault_nsteps + s];
			if (c->unfit)
				fprintf(f, "<td class=\"n\">&middot;</td>");
			else
				fprintf(f, "<td class=\"%s%c\">%c</td>", c->problem[0] ? "bad " : "", c->outcome,
					c->outcome);
		}
	}
	fprintf(f, "</tr></table>\n<h2>Steps</h2><table>");
	for (unsigned s = 0; s < fault_nsteps; s++) {
		fprintf(f, "<tr><td>%s</td><td>%s", fault_steps[s].name, fault_steps[s].where);
		if (fault_steps[s].skip)
			fprintf(f, ": no cells, %s", fault_steps[s].skip);
		fprintf(f, "</td></tr>\n");
	}
	fprintf(f, "</table>\n");
}

static void details(FILE *f, const struct fault_cell *cells, unsigned e)
{
	fprintf(f, "<h2 id=\"e%u\">", e);
	text_html(f, fault_events[e].name);
	fprintf(f, "</h2><table><tr><th>step</th><th>outcome</th><th>s</th><th>still, ms</th><th>source "
		   "says</th><th>destination "
		   "says</th></tr>\n");
	for (unsigned s = 0; s < fault_nsteps; s++) {
		const struct fault_cell *c = &cells[e * fault_nsteps + s];
		fprintf(f, "<tr><td>%s</td>", c->step->name);
		if (c->unfit) {
			fprintf(f, "<td class=\"n\" colspan=\"5\">%s</td></tr>\n", c->unfit);
			continue;
		}
		fprintf(f, "<td class=\"%s%c\">%c", c->problem[0] ? "bad " : "", c->outcome, c->outcome);
		if (c->problem[0]) {
			fprintf(f, ": ");
			text_html(f, c->problem);
		}
		fprintf(f, "</td><td>%lu.%03lu</td><td>%lu</td><td>", c->ns / NS_PER_SEC, c->ns / NS_PER_MS % 1000,
			c->still_ns / NS_PER_MS);
		text_html(f, c->says[A]);
		fprintf(f, "</td><td>");
		text_html(f, c->says[B]);
		fprintf(f, "</td></tr>\n");
	}
	fprintf(f, "</table>\n");
}

static void json(FILE *f, const struct fault_cell *cells, unsigned n)
{
	fprintf(f, "[\n");
	for (unsigned i = 0; i < n; i++) {
		const struct fault_cell *c = &cells[i];
		fprintf(f, "{");
		text_json(f, "step", c->step->name);
		fprintf(f, ", ");
		text_json(f, "event", c->event->name);
		fprintf(f, ", ");
		if (c->unfit) {
			text_json(f, "unfit", c->unfit);
		} else {
			fprintf(f, "\"outcome\": \"%c\", \"right\": %s, \"runs\": %u, \"ms\": %lu, \"still_ms\": %lu, ",
				c->outcome, c->problem[0] ? "false" : "true", c->runs, c->ns / NS_PER_MS,
				c->still_ns / NS_PER_MS);
			text_json(f, "source", c->says[A]);
			fprintf(f, ", ");
			text_json(f, "destination", c->says[B]);
			fprintf(f, ", ");
			text_json(f, "problem", c->problem);
		}
		fprintf(f, "}%s\n", i + 1 < n ? "," : "");
	}
	fprintf(f, "]\n");
}

int fault_report(const struct fault_cell *cells, unsigned n)
{
	FILE *f = fopen("build/faults.html", "w");
	if (!f)
		return -1;
	fputs(head, f);
	matrix(f, cells);
	for (unsigned e = 0; e < fault_nevents; e++)
		details(f, cells, e);
	if (fclose(f) || !(f = fopen("build/faults.json", "w")))
		return -1;
	json(f, cells, n);
	return fclose(f);
}
