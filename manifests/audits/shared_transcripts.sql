-- title: The same sentence by several speakers, or by unknown ones
-- severity: info
-- why: Read speech repeats its prompts, which is well; but few sentences make a model that knows them
--   by heart, and a split by speaker shares them. Single words are left out: see isolated_words.
-- fix: Split by what is said (a mix does: splits.by content), or keep fewer of each with
--   cslm-data dedup.

-- One row per (language, sentence).
with counted as (
    select
        language,
        text_key,
        count(*) as utterances,
        count(distinct (corpus, speaker)) filter (where speaker is not null) as speakers,
        bool_or(speaker is null) as some_unknown,
    from utterances
    where text_norm <> '' and not is_one_word(text_norm, language)
    group by language, text_key
    having count(*) > 1
)

select
    language,
    any_value(counted.utterances) as utterances,
    any_value(counted.speakers) as speakers,
    list_sort(list(distinct utterances.corpus)) as corpora,
    min(utterances.text) as text,
    list(utterances.utt_id order by utterances.utt_id) as utt_ids,
from utterances
inner join counted using (language, text_key)
where counted.speakers > 1 or counted.some_unknown
group by language, text_key
order by any_value(counted.utterances) desc, language, utt_ids[1];
