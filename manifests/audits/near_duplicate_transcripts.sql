-- title: Transcripts that are nearly the same
-- severity: info
-- why: Templates, variants and second versions of a sentence look like more data than they are, and
--   leak between splits that compare whole sentences.
-- fix: Look at the pairs; move out what adds nothing: cslm-data filter "utt_id = '…'" --reason
--   near_duplicate.

-- One row per sentence that is like an earlier one: at least 0.8 of all their pieces (5 characters, 3 in
-- scripts without spaces) are in both. Candidates share two of the four smallest hashes of their
-- pieces and meet the first one, and the next by alphabet, of those who do: work in proportion to
-- the text, about 97 % of the pairs at 0.8, nearly all above. Short sentences are left out.
with sentences as (
    select
        hash(language, text_key) as sentence,
        language,
        min(utt_id) as utt_id,
        min(text_norm) as text,
        if(is_unspaced(language), 3, 5) as size,
    from utterances
    where len(text_norm) >= if(is_unspaced(language), 12, 24)
    group by language, text_key
),

sketches as (
    select language, sentence, list_sort(character_grams(text, size))[1:4] as low
    from sentences
),

bands as materialized (
    select
        sentence,
        unnest([
            hash(language, low[1], low[2]),
            hash(language, low[1], low[3]),
            hash(language, low[1], low[4]),
            hash(language, low[2], low[3]),
            hash(language, low[2], low[4]),
            hash(language, low[3], low[4]),
        ]) as band,
    from sketches
),

shared as (
    select band, min(sentence) as first_one
    from bands
    group by band
    having count(*) > 1
),

met as (
    select
        bands.sentence,
        shared.first_one,
        lag(bands.sentence) over (partition by bands.band order by sentences.text) as next_one,
    from bands
    inner join shared using (band)
    inner join sentences using (sentence)
),

pairs as (
    select greatest(sentence, first_one) as one, least(sentence, first_one) as other
    from met
    where sentence <> first_one
    union
    select greatest(sentence, next_one) as one, least(sentence, next_one) as other
    from met
    where next_one is not null and next_one <> sentence
),

candidates as (
    select
        greatest(one.utt_id, other.utt_id) as later_id,
        least(one.utt_id, other.utt_id) as earlier_id,
        one.language,
        if(one.utt_id > other.utt_id, one.text, other.text) as text,
        if(one.utt_id > other.utt_id, other.text, one.text) as other_text,
        one.size,
    from pairs
    inner join sentences as one on pairs.one = one.sentence
    inner join sentences as other on pairs.other = other.sentence
    where
        least(len(one.text), len(other.text)) >= 0.75 * greatest(len(one.text), len(other.text))
        and one.text <> other.text
),

grams as (
    select
        candidates.*,
        list_distinct(character_grams(text, size)) as own,
        list_distinct(character_grams(other_text, size)) as other,
    from candidates
),

compared as (
    select later_id, earlier_id, language, text, other_text, len(list_intersect(own, other)) as common, len(own) + len(other) as total
    from grams
),

alike as (
    select *, round(common / (total - common), 3) as similarity
    from compared
    where common >= 0.8 * (total - common)
)

select distinct on (later_id)
    language,
    similarity,
    text,
    other_text,
    [later_id, earlier_id] as utt_ids,
from alike
order by later_id, similarity desc, earlier_id;
