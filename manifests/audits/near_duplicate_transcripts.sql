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
        language,
        text_key,
        min(utt_id) as utt_id,
        min(text_norm) as text,
        if(is_unspaced(language), 3, 5) as size,
    from utterances
    where len(text_norm) >= if(is_unspaced(language), 12, 24)
    group by language, text_key
),

sketches as (
    select language, utt_id, list_sort(list_distinct(character_grams(text, size)))[1:4] as low
    from sentences
),

bands as (
    select
        utt_id,
        unnest([
            hash(language, low[1], low[2]),
            hash(language, low[1], low[3]),
            hash(language, low[1], low[4]),
            hash(language, low[2], low[3]),
            hash(language, low[2], low[4]),
            hash(language, low[3], low[4]),
        ]) as band,
    from sketches
    where len(low) = 4
),

shared as (
    select band, min(utt_id) as first_id
    from bands
    group by band
    having count(*) > 1
),

met as (
    select
        bands.utt_id,
        shared.first_id,
        lag(bands.utt_id) over (partition by bands.band order by sentences.text, bands.utt_id) as next_id,
    from bands
    inner join shared using (band)
    inner join sentences using (utt_id)
),

pairs as (
    select greatest(utt_id, first_id) as later_id, least(utt_id, first_id) as earlier_id
    from met
    where utt_id <> first_id
    union
    select greatest(utt_id, next_id) as later_id, least(utt_id, next_id) as earlier_id
    from met
    where next_id is not null and next_id <> utt_id
),

candidates as (
    select pairs.later_id, pairs.earlier_id, later.language, later.text, earlier.text as other_text, later.size
    from pairs
    inner join sentences as later on pairs.later_id = later.utt_id
    inner join sentences as earlier on pairs.earlier_id = earlier.utt_id
    where
        least(len(later.text), len(earlier.text)) >= 0.75 * greatest(len(later.text), len(earlier.text))
        and later.text <> earlier.text
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
