-- The speech of the catalog in pieces of at most so many seconds, so that of long recordings some
-- pieces can be sampled and none fills the memory. One row per piece.
create or replace temp macro pieces(longest_s) as table
with counted as (
    select
        *,
        greatest(1, ceil(duration_s / longest_s))::bigint as num_pieces,
    from utterances
)

select
    utt_id,
    audio,
    offset_s + piece * duration_s / num_pieces as offset_s,
    duration_s / num_pieces as duration_s,
    language,
    audio_version,
    speaker,
    corpus,
    -- Steps of the golden ratio spread the pieces of a recording over the order.
    (
        (key_hash::uhugeint + piece::uhugeint * 11400714819323198485::uhugeint)
        % 18446744073709551616::uhugeint
    )::ubigint as key_hash,
from counted
cross join unnest(range(num_pieces)) as numbers (piece)
