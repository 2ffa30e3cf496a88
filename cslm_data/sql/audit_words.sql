-- Words that audits share beside the views: macros, and tables that the runner fills from what the
-- user asked for. Made anew for each connection, never in the catalog's file. {unspaced} is filled by
-- cslm_data/auditing/inputs.py with the languages that are written without spaces.

-- `train`, `valid` or `test` of a corpus's own split, as mixes by manifest understand it.
create or replace temp macro split_kind(name) as
case
    when lower(coalesce(name, '')) like 'test%' or lower(coalesce(name, '')) like 'eval%' then 'test'
    when lower(coalesce(name, '')) like 'dev%' or lower(coalesce(name, '')) like 'val%' then 'valid'
    else 'train'
end;

-- One row per sound that more than one utterance has: by the hash of its decoded samples where they are
-- measured, else by the file's fingerprint and the stretch of it. A corpus without splits counts as train.
create or replace temp view repeated_sounds as
with places as (
    select
        utterances.audio_version,
        utterances.offset_s,
        utterances.duration_s,
        max(measures.samples_hash) as samples_hash,
        list({
            'utt_id': utterances.utt_id,
            'corpus': utterances.corpus,
            'split': utterances.split,
            'text_key': utterances.text_key
        }) as heard,
    from utterances
    left join measures using (utt_id, audio_version)
    group by utterances.audio_version, utterances.offset_s, utterances.duration_s
)

select flatten(list(heard)) as heard
from places
group by coalesce(samples_hash, concat_ws(' ', audio_version, offset_s, duration_s))
having sum(len(heard)) > 1;

-- Whether a language is written without spaces between words.
create or replace temp macro is_unspaced(language) as language in {unspaced};

-- Whether the script of a bare text has spaces between words.
create or replace temp macro has_spaces(bare) as
not regexp_matches(bare, '[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]');

-- Letters and digits of a text, lower case, single spaces; none where its script writes none.
create or replace temp macro bare_text(string) as
case
    when not has_spaces(string)
        then regexp_replace(lower(string), '[^\p{L}\p{M}\p{N}]+', '', 'g')
    else trim(regexp_replace(lower(string), '[^\p{L}\p{M}\p{N}]+', ' ', 'g'))
end;

-- Whether a text is long enough that to meet it twice means something: three words, or six
-- characters of a script without spaces.
create or replace temp macro is_sentence(string, language) as
case
    when is_unspaced(language) then len(string) >= 6
    else len(string) - len(replace(string, ' ', '')) >= 2
end;

-- Whether a normalised transcript is one word: without spaces two characters or one romanised syllable.
create or replace temp macro is_one_word(string, language) as
case
    when is_unspaced(language) then len(string) <= 2 or regexp_matches(string, '^[a-zü:]+[0-9]?$')
    else not contains(string, ' ')
end;

-- Whether a bare text is long enough that to meet it twice means something.
create or replace temp macro is_long_enough(bare, spaced) as
if(spaced, len(bare) - len(replace(bare, ' ', '')) >= 2, len(bare) >= 6);

-- Overlapping pieces of `size` characters of a text, as hashes.
create or replace temp macro character_grams(string, size) as
list_transform(range(1, greatest(len(string) - size + 2, 1)), lambda i: hash(substring(string, i, size)));

-- Overlapping pieces of a bare text, as hashes: 8 words, or 13 characters where its script has no spaces.
create or replace temp macro text_grams(bare, spaced) as
case
    when spaced then list_transform(
        [string_split(bare, ' ')],
        lambda words: list_transform(range(1, greatest(len(words) - 6, 1)), lambda i: hash(words[i:i + 7]))
    )[1]
    else character_grams(bare, 13)
end;

-- Pieces of 20 units, as hashes: one in eight, those whose first two units have a hash that says so.
create or replace temp macro unit_grams(units) as
list_transform(
    list_filter(range(1, greatest(len(units) - 18, 1)), lambda i: hash(units[i], units[i + 1]) % 8 = 0),
    lambda i: hash(units[i:i + 19])
);

-- For each of these pieces, how many different units it holds.
create or replace temp macro unit_gram_kinds(units) as
list_transform(
    list_filter(range(1, greatest(len(units) - 18, 1)), lambda i: hash(units[i], units[i + 1]) % 8 = 0),
    lambda i: list_unique(units[i:i + 19])
);

-- One row per task of the recipe and language or pair of languages of --langs.
create or replace temp table wanted (
    task varchar,
    language varchar,
    answer_language varchar,
    weight double,
);

-- One row: what --use says that the data is for.
create or replace temp table intended_use (use varchar);

-- One row per text of the benchmark of --against.
create or replace temp table benchmark_texts (benchmark_id varchar, text varchar);

-- One row per recording of the benchmark's file that can be read.
create or replace temp table benchmark_audio (benchmark_id varchar, audio_version varchar, offset_s double);

-- One row per row of the catalog that is the benchmark itself: it is not held against it.
create or replace temp table benchmark_own (table_name varchar, id varchar);

-- Units of the benchmark's own utterances. One row per utterance and speech tokenizer.
create or replace temp view benchmark_units as
select units.*
from units
semi join (select id as utt_id from benchmark_own where table_name = 'utterances') using (utt_id);
