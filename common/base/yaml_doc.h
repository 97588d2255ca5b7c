/* The plain structure of a small YAML document: every node with its path and its line. libcyaml,
 * which checks the document against a schema, has no mappings with free keys and keeps no places;
 * this adds both. Anchors, aliases, tags, several documents and control characters are refused. The
 * only door to libyaml is yaml_doc.c. */
#ifndef PENSTOCK_BASE_YAML_DOC_H
#define PENSTOCK_BASE_YAML_DOC_H

#include <stddef.h>

#include "common/base/buf.h"
#include "common/base/check.h"
#include "common/base/error.h"

enum { YAML_DEPTH_MAX = 8, YAML_NODES_MAX = 8192, YAML_PATH_MAX = 512 };

enum yaml_kind { YAML_SCALAR, YAML_MAPPING, YAML_SEQUENCE };

struct yaml_node {
    enum yaml_kind kind;
    int parent;     /* index of the container, -1 of the root */
    unsigned line;  /* from 1 */
    size_t path_at; /* "upstreams[0].name", in texts */
    size_t key_at;  /* "name" alone, "" in sequences */
    size_t value_at;
};

/* Zeroed memory is a valid empty document. */
struct yaml_doc {
    struct buf nodes; /* of struct yaml_node, in the order of the text */
    struct buf texts; /* terminated, one after the other */
};

/* ERR_INVALID with "NAME:LINE: reason" in why; ERR_NOMEM. A text without a document is an empty
 * one. */
MUST_CHECK int yaml_doc_parse(struct yaml_doc *doc, const char *name, const char *text, size_t size,
                              struct error_text *why);
void yaml_doc_deinit(struct yaml_doc *doc);
size_t yaml_doc_count(const struct yaml_doc *doc);
const struct yaml_node *yaml_doc_at(const struct yaml_doc *doc, size_t index);
int yaml_doc_find(const struct yaml_doc *doc, const char *path); /* index, or -1 */
const char *yaml_doc_key(const struct yaml_doc *doc, const struct yaml_node *node);
const char *yaml_doc_value(const struct yaml_doc *doc, const struct yaml_node *node); /* "": none */

#endif
