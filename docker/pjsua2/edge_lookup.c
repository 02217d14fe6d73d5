/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Hands the host names that PJSIP meets (a peer's Contact, a Record-Route) to an asynchronous resolver outside.
 *
 * PJSIP asks with a callback and a token, and may wait as long as its transaction lives: that is how its own DNS
 * client works too. Each question becomes an entry of a list with a number, and the answer brings the number
 * back. Literal addresses, and all names while there is no resolver, go to a plain pjsip_resolver, which
 * patches/0002 keeps from asking the C library.
 */

#include <stdlib.h>
#include <string.h>

#include <pjsip.h>
#include <pjsua-lib/pjsua.h>

#include "sipivr_edge.h"

/* A question lives as long as its transaction, 32 s at most unless the outside forgets to answer. */
#define MAX_PENDING 4096

struct pending {
    PJ_DECL_LIST_MEMBER(struct pending);
    uint64_t id;
    void *token;
    pjsip_resolver_callback *answer;
};

static void resolve(pjsip_resolver_t *resolver, pj_pool_t *pool, const pjsip_host_info *target, void *token,
                    pjsip_resolver_callback *answer);

static pjsip_ext_resolver hook = { &resolve };

static struct {
    pjsip_endpoint *endpoint; /* NULL while not installed */
    pj_pool_t *pool;
    pjsip_resolver_t *literal;
    sipivr_edge_lookup_cb ask;
    struct pending list; /* a list head once installed */
    size_t count;
    uint64_t last_id; /* never starts again: a late answer to an endpoint that is gone finds nothing */
} lookup;

static int is_literal(const pj_str_t *host)
{
    pj_in6_addr address; /* room for either family */

    return pj_inet_pton(pj_AF_INET(), host, &address) == PJ_SUCCESS ||
           pj_inet_pton(pj_AF_INET6(), host, &address) == PJ_SUCCESS;
}

static void resolve(pjsip_resolver_t *resolver, pj_pool_t *pool, const pjsip_host_info *target, void *token,
                    pjsip_resolver_callback *answer)
{
    struct sipivr_edge_lookup question;
    struct pending *entry;

    PJ_UNUSED_ARG(resolver);
    if (lookup.ask == NULL || is_literal(&target->addr.host)) {
        pjsip_resolve(lookup.literal, pool, target, token, answer);
        return;
    }
    entry = lookup.count < MAX_PENDING ? calloc(1, sizeof(*entry)) : NULL;
    if (entry == NULL) {
        answer(PJ_ETOOMANY, token, NULL);
        return;
    }
    entry->id = ++lookup.last_id;
    entry->token = token;
    entry->answer = answer;
    pj_list_push_back(&lookup.list, entry);
    ++lookup.count;

    question.id = entry->id;
    question.name = target->addr.host.ptr;
    question.name_length = (size_t)target->addr.host.slen;
    question.port = target->addr.port;
    question.transport = target->type == PJSIP_TRANSPORT_UNSPECIFIED
                             ? ""
                             : pjsip_transport_get_type_name(target->type & ~PJSIP_TRANSPORT_IPV6);
    question.is_secure = (target->flag & PJSIP_TRANSPORT_SECURE) != 0;
    lookup.ask(&question);
}

static struct pending *take(uint64_t id)
{
    struct pending *entry;

    if (lookup.endpoint == NULL)
        return NULL;
    for (entry = lookup.list.next; entry != &lookup.list; entry = entry->next) {
        if (entry->id == id) {
            pj_list_erase(entry);
            --lookup.count;
            return entry;
        }
    }
    return NULL;
}

static pj_status_t fill(pjsip_server_address_record *record, const struct sipivr_edge_address *address)
{
    static const uint8_t v4_prefix[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
    static const pjsip_transport_type_e types[] = { PJSIP_TRANSPORT_UDP, PJSIP_TRANSPORT_TCP,
                                                    PJSIP_TRANSPORT_TLS };
    int type;

    if (address->transport >= PJ_ARRAY_SIZE(types) || address->port == 0)
        return PJ_EINVAL;
    type = types[address->transport];
    if (memcmp(address->address, v4_prefix, sizeof(v4_prefix)) == 0) {
        pj_sockaddr_init(pj_AF_INET(), &record->addr, NULL, address->port);
        memcpy(&record->addr.ipv4.sin_addr, address->address + 12, 4);
    } else {
        pj_sockaddr_init(pj_AF_INET6(), &record->addr, NULL, address->port);
        memcpy(&record->addr.ipv6.sin6_addr, address->address, 16);
        type |= PJSIP_TRANSPORT_IPV6;
    }
    record->type = (pjsip_transport_type_e)type;
    record->addr_len = (int)pj_sockaddr_get_len(&record->addr);
    return PJ_SUCCESS;
}

int sipivr_edge_resolved(uint64_t id, const struct sipivr_edge_address *addresses, size_t count)
{
    struct pending *entry = take(id);
    pjsip_server_addresses found;
    size_t i;

    if (entry == NULL)
        return -1;
    memset(&found, 0, sizeof(found));
    for (i = 0; i < count && found.count < PJSIP_MAX_RESOLVED_ADDRESSES; ++i) {
        if (fill(&found.entry[found.count], &addresses[i]) == PJ_SUCCESS)
            ++found.count;
    }
    if (found.count > 0)
        entry->answer(PJ_SUCCESS, entry->token, &found);
    else
        entry->answer(PJ_ERESOLVE, entry->token, NULL);
    free(entry);
    return 0;
}

int sipivr_edge_set_lookup(sipivr_edge_lookup_cb ask)
{
    pjsip_endpoint *endpoint = pjsua_get_pjsip_endpt();
    pj_status_t status;

    if (lookup.endpoint == NULL && ask != NULL) {
        if (endpoint == NULL)
            return PJ_EINVALIDOP;
        lookup.pool = pjsip_endpt_create_pool(endpoint, "sipivr-lookup", 1000, 1000);
        if (lookup.pool == NULL)
            return PJ_ENOMEM;
        status = pjsip_resolver_create(lookup.pool, &lookup.literal);
        if (status == PJ_SUCCESS)
            status = pjsip_endpt_set_ext_resolver(endpoint, &hook);
        if (status != PJ_SUCCESS) {
            pjsip_endpt_release_pool(endpoint, lookup.pool);
            return status;
        }
        pj_list_init(&lookup.list);
        lookup.count = 0;
        lookup.endpoint = endpoint;
    }
    lookup.ask = ask;
    return PJ_SUCCESS;
}

/* The edge's unload: the transactions that asked are being torn down, and must not be called any more. */
void sipivr_edge_forget_lookups(void)
{
    struct pending *entry;

    if (lookup.endpoint == NULL)
        return;
    while ((entry = lookup.list.next) != &lookup.list) {
        pj_list_erase(entry);
        free(entry);
    }
    pjsip_endpt_set_ext_resolver(lookup.endpoint, NULL);
    pjsip_resolver_destroy(lookup.literal);
    pjsip_endpt_release_pool(lookup.endpoint, lookup.pool);
    lookup.endpoint = NULL;
    lookup.ask = NULL;
    lookup.count = 0;
}
