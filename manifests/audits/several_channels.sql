-- title: Audio with more than one channel
-- severity: warning
-- why: Channels are averaged: two speakers on two channels become one voice over the other, a dead
--   channel halves the level.
-- fix: Convert to one channel per speaker before ingest, where they hold different sounds.

-- One row per (corpus, language, channels).
select
    corpus,
    language,
    num_channels,
    count(*) as utterances,
    sum(duration_s) / 3600 as hours,
    min(utt_id) as example,
from utterances
where num_channels > 1
group by corpus, language, num_channels
order by corpus, language, num_channels;
