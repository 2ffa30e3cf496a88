-- title: Audio recorded with fewer than 16,000 samples a second
-- severity: warning
-- why: Units come from 16 kHz: above 4 kHz an 8 kHz recording has nothing, so its units are others than
--   those of the same sounds elsewhere, and a model learns the telephone as an accent.
-- fix: Look for an original of a higher rate; else keep its share small: a source of the recipe with
--   where: "sample_rate_hz < 16000", or cslm-data filter "sample_rate_hz < 16000" --reason narrow_band.

-- One row per (corpus, language, rate).
select
    corpus,
    language,
    sample_rate_hz,
    count(*) as utterances,
    sum(duration_s) / 3600 as hours,
    min(utt_id) as example,
from utterances
where sample_rate_hz < 16000
group by corpus, language, sample_rate_hz
order by corpus, language, sample_rate_hz;
