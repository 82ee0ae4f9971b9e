/* How large the document is: a warning, and a limit that holds.
 *
 *     0 ─────────── warning ─────────── limit
 *         taken in     │  taken in, told   │  refused, unless it only deletes
 *
 * What counts is the content as it is merged, and sidecars. The tail beside it is an upper bound
 * for what it will add: where that decides, the tail is merged first, and who waits is held. */
#include "internal.h"

static size_t tail_size(const struct tp_session *session)
{
    return session->tail_count == 0 ? 0 : session->tail_size;
}

size_t tp_size_bound(const struct tp_session *session)
{
    return (session->merged == NULL ? 0 : session->merged->bytes.size) + session->sidecars.size +
           tail_size(session);
}

static void tell(struct tp_session *session, enum tp_news news)
{
    session->news |= 1u << news;
}

/* Both thresholds, in counts of documents that are over them. */
static void set_over(bool *is, bool over, uint64_t *count)
{
    *count += (uint64_t)over - (uint64_t)*is;
    *is = over;
}

void tp_size_weigh(struct tp_session *session)
{
    const struct tp_session_limits *limits = session->env->limits;
    struct tp_counters *counters = session->env->counters;
    const size_t size = tp_size_bound(session);

    counters->document_bytes += size - session->counted_size;
    session->counted_size = size;
    if (session->tail_count > 0 || limits->size_warning == 0)
        return;
    if (size >= limits->size_warning && !session->over_warning) {
        counters->size_warnings++;
        tell(session, TP_NEWS_SIZE_WARNING);
    }
    set_over(&session->over_warning, size >= limits->size_warning,
             &counters->documents_over_warning);
}

bool tp_size_is_unclear(const struct tp_session *session, size_t more)
{
    const uint64_t limit = session->env->limits->size_limit;

    return limit > 0 && session->tail_count > 0 && tp_size_bound(session) + more > limit;
}

bool tp_size_wants_merge(const struct tp_session *session)
{
    const uint64_t warning = session->env->limits->size_warning;

    return session->measuring || (warning > 0 && !session->over_warning &&
                                  session->tail_count > 0 && tp_size_bound(session) >= warning);
}

bool tp_size_admits(struct tp_session *session, size_t more)
{
    struct tp_counters *counters = session->env->counters;
    const uint64_t limit = session->env->limits->size_limit;
    const bool over = limit > 0 && tp_size_bound(session) - tail_size(session) + more > limit;

    if (over && !session->over_limit) {
        counters->size_limits++;
        tell(session, TP_NEWS_SIZE_LIMIT);
    }
    set_over(&session->over_limit, over, &counters->documents_over_limit);
    return !over;
}

void tp_size_forget(struct tp_session *session)
{
    struct tp_counters *counters = session->env->counters;

    counters->document_bytes -= session->counted_size;
    session->counted_size = 0;
    set_over(&session->over_warning, false, &counters->documents_over_warning);
    set_over(&session->over_limit, false, &counters->documents_over_limit);
}
