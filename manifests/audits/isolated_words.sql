-- title: A corpus of single words or syllables
-- severity: warning
-- why: Digits, commands and syllables are no sentences: a mix that takes them as speech with text
--   learns short answers, and their many repeats weigh more than they say.
-- fix: Leave the corpus out of a source of the recipe (where: "corpus <> '…'"), keep few of each with
--   cslm-data dedup, or cslm-data filter "corpus = '…'" --reason isolated_words.

-- One row per (corpus, language) of at least 20 transcripts, nine tenths of them one word (without
-- spaces: at most two characters, or one romanised syllable).
select
    corpus,
    language,
    count(*) as transcripts,
    count(distinct text_key) as different_ones,
    count(*) filter (where is_one_word(text_norm, language)) as single_words,
    round(median(duration_s), 3) as median_duration_s,
    sum(duration_s) / 3600 as hours,
    min(utt_id) as example,
from utterances
where text_norm <> ''
group by corpus, language
having count(*) >= 20 and count(*) filter (where is_one_word(text_norm, language)) >= 0.9 * count(*)
order by corpus, language;
