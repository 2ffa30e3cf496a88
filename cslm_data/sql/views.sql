-- Every artefact of a workspace under one name. Made anew for each connection, so that they follow
-- the files; {placeholders} are filled by catalog.py with a scan of the files, or with an empty table
-- of the same columns where there are none.

-- One row per row of the catalog that a curation moved out, and why.
create or replace temp view excluded as
select exclusions.table_name, exclusions.id, exclusions.duplicate_of, curation_id, curations.kind, curations.reason
from exclusions
inner join curations using (curation_id)
where not curations.undone;

-- One row per stretch of speech that was not moved out.
create or replace temp view utterances as
select all_utterances.*
from all_utterances
anti join (select id as utt_id from excluded where table_name = 'utterances') using (utt_id);

-- One row per sentence with its translation that was not moved out.
create or replace temp view bitext as
select all_bitext.*
from all_bitext
anti join (select id as pair_id from excluded where table_name = 'bitext') using (pair_id);

-- One row per dialogue that was not moved out.
create or replace temp view dialogues as
select all_dialogues.*
from all_dialogues
anti join (select id as dialogue_id from excluded where table_name = 'dialogues') using (dialogue_id);

-- One row per utterance and version of its audio that was measured: see docs/formats.md. Twice measured,
-- by two commands at once, is the same in two files; those few are told by a hash, so that the many are
-- not sorted.
create or replace temp view measures as
with accepted as (
    select *, hash(utt_id, audio_version) as pair
    from {measure_parts}
    where reject_reason is null
),

repeated as (
    select pair
    from accepted
    group by pair
    having count(*) > 1
),

found as (
    select *
    from accepted
    anti join repeated using (pair)
    union all
    select *
    from accepted
    semi join repeated using (pair)
    qualify row_number() over (partition by utt_id, audio_version order by filename) = 1
)

select
    utt_id,
    audio_version,
    sample_rate_hz,
    num_channels,
    num_samples,
    decoded_s,
    rms_db,
    peak,
    clipped_share,
    dc_offset,
    leading_silence_s,
    trailing_silence_s,
    silence_share,
    snr_db,
    bandwidth_hz,
    samples_hash,
from found;

-- One row per distinct text and the language its corpus says it is in: the language it seems to be in.
create or replace temp view text_languages as
select text_hash, language, detected, confidence
from {text_language_parts};

-- One row per utterance and speech tokenizer: deduplicated units and their durations in frames.
create or replace temp view units as
select
    regexp_extract(filename, '([^/]+)/[^/]+$', 1) as tokenizer_id,
    utt_id,
    units,
    durations,
    num_frames,
    audio_version,
from {unit_parts}
where reject_reason is null;

-- One row per utterance and aligner: its words and phones with their times, null where not known. Times
-- that were computed here count as long as recording, language and transcript are those they were
-- computed from; `audio_version` is null for times that came with a corpus.
create or replace temp view alignments as
with found as (
    select
        regexp_extract(filename, 'alignments/([^/]+)/[^/]+$', 1) as aligner_id,
        utt_id,
        words,
        phones,
        audio_version,
        language,
        text_hash,
    from {alignment_parts}
    where reject_reason is null
)

select aligner_id, utt_id, words, phones, audio_version
from found
where audio_version is null
union all
select found.aligner_id, found.utt_id, found.words, found.phones, found.audio_version
from found
inner join all_utterances using (utt_id, audio_version, language)
where found.text_hash = md5_number_lower(all_utterances.text);

-- One row per utterance that has words with times: those that came with a corpus, else those whose words
-- are the surest on average, the first aligner by name among equals.
create or replace temp view best_alignments as
with scored as (
    select
        utt_id,
        aligner_id,
        struct_pack(
            computed := aligner_id <> 'imported',
            doubt := -coalesce(list_avg([word.score for word in words]), 0),
            aligner_id := aligner_id
        ) as place,
    from alignments
    where len(words) > 0
),

best as (
    select utt_id, arg_min(aligner_id, place) as aligner_id
    from scored
    group by utt_id
)

select
    alignments.utt_id,
    alignments.aligner_id,
    alignments.words,
    alignments.phones,
    alignments.audio_version,
    list_avg([word.score for word in alignments.words]) as mean_score,
from alignments
inner join best using (utt_id, aligner_id);

-- One row per speech tokenizer.
create or replace temp view tokenizers as
select
    regexp_extract(filename, 'tokenizers/([^/]+)/[^/]+$', 1) as name,
    tokenizer_id,
    extractor,
    num_units,
    frame_rate_hz,
from {tokenizer_files};

-- One row per mix.
create or replace temp view mixes as
select
    regexp_extract(filename, 'mixes/([^/]+)/[^/]+$', 1) as mix,
    mix_id,
    stage,
    languages,
    seed,
    tokenizer_id,
    text_tokenizer_id,
    template_version,
    recipe.splits.by as split_by,
from {mix_files};

-- One row per training sample of a mix, in the order of its shards.
create or replace temp view mix_samples as
select
    regexp_extract(filename, 'mixes/([^/]+)/[^/]+$', 1) as mix,
    split,
    position,
    "key",
    task,
    languages,
    source_ids,
    epoch,
    num_tokens,
    num_units,
    shard,
from {mix_parts};

-- One row per shard of a mix.
create or replace temp view shards as
select
    regexp_extract(filename, 'mixes/([^/]+)/[^/]+$', 1) as mix,
    unnest(shards, recursive := true),
from {shard_files};

-- One row per sample of a shard: at which bytes of it the data of its members lie. `units_offset` and
-- `units_bytes` are null for a sample without speech.
create or replace temp view sample_places as
select
    regexp_extract(filename, 'mixes/([^/]+)/shards/[^/]+$', 1) as mix,
    regexp_extract(filename, '([^/]+)[.]idx[.]parquet$', 1) as shard,
    "key",
    json_offset,
    json_bytes,
    units_offset,
    units_bytes,
    num_units,
from {place_parts};

-- One row per sample of a mix and source row it is made of: where the sample lies in a shard, and where the
-- row was read from. `source_uri` is null for a row that has left the catalog.
create or replace temp view lineage as
with members as (
    select mix, split, position, "key", task, languages, epoch, num_tokens, shard, unnest(source_ids) as source_id
    from mix_samples
),

rows as (
    select utt_id as source_id, 'utterances' as table_name, corpus, source_uri, place from all_utterances
    union all
    select pair_id as source_id, 'bitext' as table_name, corpus, source_uri, place from all_bitext
    union all
    select dialogue_id as source_id, 'dialogues' as table_name, corpus, source_uri, place from all_dialogues
)

select
    members.*,
    sample_places.json_offset,
    sample_places.json_bytes,
    sample_places.units_offset,
    sample_places.units_bytes,
    rows.table_name,
    rows.corpus,
    rows.source_uri,
    rows.place,
from members
left join sample_places using (mix, shard, "key")
left join rows using (source_id);

-- One row per sample that a training run read or will read: which step, rank and pack it is in.
create or replace temp view batches as
select
    regexp_extract(filename, 'runs/([^/]+)/[^/]+$', 1) as run,
    step,
    rank,
    micro_batch,
    pack_id,
    "key",
from {batch_parts};

-- One row per number that a training run recorded: at which step, of which kind of row (`train`, `valid`,
-- `valid/text`), and of which task and languages, null for the whole.
create or replace temp view run_metrics as
with found as (
    select
        regexp_extract(filename, 'runs/([^/]+)/metrics/(.+)[.]jsonl$', ['run', 'category']) as place,
        (json ->> 'Step')::ubigint as step,
        unnest(json_keys(json)) as name,
        json,
    from {metric_lines}
)

select
    place.run as run,
    place.category as category,
    step,
    split_part(name, '/', 1) as metric,
    nullif(split_part(name, '/', 2), '') as task,
    nullif(split_part(name, '/', 3), '') as languages,
    try_cast(json ->> ('$."' || name || '"') as double) as "value",
from found
where name not in ('Step', 'Time') and "value" is not null;

-- One row per step that a training run skipped, because its loss or gradient was not sound: `keys` are the
-- samples of the step, `suspects` those whose own loss is not finite.
create or replace temp view skipped_steps as
select
    regexp_extract(filename, 'runs/([^/]+)/[^/]+$', 1) as run,
    (json ->> 'step')::ubigint as step,
    json ->> 'reason' as reason,
    (json ->> 'loss')::double as loss,
    (json ->> 'grad_norm')::double as grad_norm,
    (json ->> 'limit')::double as "limit",
    (json -> 'keys')::varchar[] as keys,
    (json -> 'suspects')::varchar[] as suspects,
from {skipped_lines};

-- One row per turn of a dialogue, with the utterance that speaks it where there is one. Where the only
-- one was moved out, `curation_id` says by which filter or dedup, and for `excluded` why.
create or replace temp view dialogue_turns as
with turns as (
    select dialogue_id, corpus, generate_subscripts(turns, 1) as turn, unnest(turns) as t
    from dialogues
),

spoken as (
    select audio, offset_s, min(utt_id) as utt_id
    from utterances
    semi join (select t.audio from turns where t.audio is not null) using (audio)
    group by all
),

moved as (
    select
        all_utterances.audio,
        all_utterances.offset_s,
        min(all_utterances.utt_id) as utt_id,
        arg_min(excluded.curation_id, all_utterances.utt_id) as curation_id,
        arg_min(excluded.kind || ' ' || excluded.curation_id || ': ' || excluded.reason, all_utterances.utt_id) as excluded,
    from excluded
    inner join all_utterances on excluded.id = all_utterances.utt_id
    where excluded.table_name = 'utterances'
    group by all_utterances.audio, all_utterances.offset_s
)

select
    turns.dialogue_id,
    turns.corpus,
    turns.turn,
    turns.t.role as role,
    turns.t.language as language,
    turns.t.text as text,
    turns.t.text_key as text_key,
    turns.t.speaker as speaker,
    coalesce(spoken.utt_id, moved.utt_id, turns.t.utt_id) as utt_id,
    case when spoken.utt_id is null then moved.curation_id end as curation_id,
    case when spoken.utt_id is null then moved.excluded end as excluded,
from turns
left join spoken on turns.t.audio = spoken.audio and turns.t.offset_s = spoken.offset_s
left join moved on turns.t.audio = moved.audio and turns.t.offset_s = moved.offset_s;

-- One row per sample of a mix and row it is made of that later was moved out or left the catalog; a
-- spoken turn whose utterance was moved out counts for the tasks that use its speech.
create or replace temp view gone_sources as
with members as (
    select mix, split, "key", task, unnest(source_ids) as id
    from mix_samples
),

there as (
    select utt_id as id from utterances
    union all
    select pair_id as id from bitext
    union all
    select dialogue_id as id from dialogues
),

asked as (
    select mix, split, "key", source_ids[1] as id, 'user' as "role"
    from mix_samples
    where task = 's2s'
    union all
    select mix, split, "key", source_ids[-1] as id, 'assistant' as "role"
    from mix_samples
    where task in ('s2s', 't2s')
),

silenced as (
    select dialogue_id as id, "role", min(excluded) as excluded
    from dialogue_turns
    where curation_id is not null
    group by all
)

select members.mix, members.split, members."key", members.id, coalesce(min(moved.kind || ' ' || moved.curation_id || ': ' || moved.reason), 'not in the catalog') as why
from members
anti join there using (id)
left join excluded as moved using (id)
group by all
union all
select asked.mix, asked.split, asked."key", asked.id, silenced.excluded as why
from asked
inner join silenced using (id, "role");

-- One row per text of the catalog: transcripts, both sides of translations, turns of dialogues.
create or replace temp view texts as
select 'utterances' as table_name, utt_id as id, 'text' as field, corpus, language, split, license, text, text_key
from utterances
where text is not null
union all
select 'bitext' as table_name, pair_id as id, 'src' as field, corpus, src_lang as language, split, license, src as text, src_key as text_key
from bitext
union all
select 'bitext' as table_name, pair_id as id, 'tgt' as field, corpus, tgt_lang as language, split, license, tgt as text, tgt_key as text_key
from bitext
union all
select 'dialogues' as table_name, dialogue_id as id, 'turn ' || turn as field, corpus, t.language, split, license, t.text, t.text_key
from (
    select dialogue_id, corpus, split, license, generate_subscripts(turns, 1) as turn, unnest(turns) as t
    from dialogues
)
where t.text is not null;

-- One row per corpus: what it holds, in which languages and under which licences.
create or replace temp view corpora as
with translations as (
    select corpus, license, src_lang as language, source_uri from bitext
    union all
    select corpus, license, tgt_lang as language, source_uri from bitext
),

rows as (
    select corpus, license, language, source_uri, 1 as utterances, 0 as pairs, 0 as dialogues, duration_s
    from utterances
    union all
    select corpus, license, language, source_uri, 0 as utterances, 0.5 as pairs, 0 as dialogues, 0 as duration_s
    from translations
    union all
    select corpus, license, language, source_uri, 0 as utterances, 0 as pairs, 1 as dialogues, 0 as duration_s
    from dialogues
)

select
    rows.corpus,
    list_sort(list(distinct rows.language)) as languages,
    list_sort(list(distinct rows.license)) as licenses,
    list_sort(list(distinct sources.format)) as formats,
    sum(rows.utterances)::ubigint as num_utterances,
    sum(rows.duration_s) / 3600 as hours,
    sum(rows.pairs)::ubigint as num_bitext_pairs,
    sum(rows.dialogues)::ubigint as num_dialogues,
from rows
left join sources using (source_uri)
group by rows.corpus;

-- One row per thing refused by any stage, and why; stage `filter` or `dedup`: moved out by a person.
create or replace temp view rejects as
select stage, corpus, "key", reason, detail
from ingest_rejects
union all
select 'quantize' as stage, coalesce(all_utterances.corpus, '') as corpus, parts.utt_id as "key", parts.reject_reason, parts.reject_detail
from {unit_parts} as parts
left join all_utterances using (utt_id)
where parts.reject_reason is not null
union all
select 'measure' as stage, coalesce(utterances.corpus, '') as corpus, refused.utt_id as "key", refused.reject_reason, refused.reject_detail
from (
    select utt_id, audio_version, reject_reason, reject_detail
    from {measure_parts}
    where reject_reason is not null
    qualify row_number() over (partition by utt_id, audio_version order by filename) = 1
) as refused
anti join measures using (utt_id, audio_version)
left join utterances using (utt_id)
union all
select 'align' as stage, all_utterances.corpus, parts.utt_id as "key", parts.reject_reason, parts.reject_detail
from {alignment_parts} as parts
inner join all_utterances using (utt_id, audio_version, language)
where
    parts.reject_reason is not null
    and parts.text_hash is not distinct from md5_number_lower(all_utterances.text)
union all
select stage, corpus, "key", reason, detail
from {reject_parts}
union all
select
    excluded.kind as stage,
    rows.corpus,
    excluded.id as "key",
    excluded.reason,
    coalesce('duplicate of ' || excluded.duplicate_of || '; ', '')
    || 'undo with: cslm-data filter --undo ' || excluded.curation_id as detail,
from excluded
inner join (
    select 'utterances' as table_name, utt_id as id, corpus from all_utterances
    union all
    select 'bitext' as table_name, pair_id as id, corpus from all_bitext
    union all
    select 'dialogues' as table_name, dialogue_id as id, corpus from all_dialogues
) as rows using (table_name, id);
