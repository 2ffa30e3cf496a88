-- The samples of a mix in their order with the rows they are made of. One row per sample, more where the
-- catalog or the units hold a row twice. `compiled` are the rows that were set aside; `mix_sources` says
-- what a source is.
with placed as (
    select plan.*, mix_sources.kind, mix_sources.language, mix_sources.answer_language, mix_sources.task, mix_sources.languages, mix_sources.task_hash
    from plan
    inner join mix_sources using (source)
),

of_utterances as (
    select
        placed.ordinal,
        [utterances.utt_id] as source_ids,
        [{
            'role': 'user',
            'language': utterances.language,
            'text': utterances.text,
            'units': units.units,
            'durations': units.durations,
            'words': null::struct(word varchar, start_s double, end_s double, score double)[],
            'excluded': null::varchar
        }] as turns,
    from placed
    inner join utterances on placed.id_hash = utterances.key_hash
    inner join units using (utt_id, audio_version)
    where placed.kind = 'utterances' and units.tokenizer_id = $tokenizer_id
),

of_bitext as (
    select
        placed.ordinal,
        [bitext.pair_id] as source_ids,
        [
            {
                'role': 'user',
                'language': placed.language,
                'text': case when src_lang = placed.language then src else tgt end,
                'units': null::usmallint[],
                'durations': null::usmallint[],
                'words': null::struct(word varchar, start_s double, end_s double, score double)[],
                'excluded': null::varchar
            },
            {
                'role': 'assistant',
                'language': placed.answer_language,
                'text': case when src_lang = placed.language then tgt else src end,
                'units': null,
                'durations': null,
                'words': null,
                'excluded': null
            },
        ] as turns,
    from placed
    inner join bitext on placed.id_hash = bitext.key_hash
    where placed.kind = 'bitext'
),

of_dialogues as (
    select
        placed.ordinal,
        [dialogues.dialogue_id] as source_ids,
        list_transform(dialogues.turns, lambda t: {
            'role': t.role,
            'language': t.language,
            'text': t.text,
            'units': null::usmallint[],
            'durations': null::usmallint[],
            'words': null::struct(word varchar, start_s double, end_s double, score double)[],
            'excluded': null::varchar
        }) as turns,
    from placed
    inner join dialogues on placed.id_hash = dialogues.key_hash
    where placed.kind = 'dialogues'
),

compiled as (
    {compiled}
),

of_compiled as (
    select placed.ordinal, compiled.source_ids, compiled.turns
    from placed
    inner join compiled using (source, id_hash)
),

rows as (
    select * from of_utterances
    union all
    select * from of_bitext
    union all
    select * from of_dialogues
    union all
    select * from of_compiled
)

select
    placed.ordinal,
    placed.split,
    placed.position,
    sample_name(placed.task, placed.languages, keyed64(placed.id_hash, placed.task_hash), placed.epoch) as "key",
    placed.source,
    placed.task,
    placed.languages,
    placed.epoch,
    placed.order_hash,
    placed.num_tokens,
    placed.num_units,
    placed.shard,
    rows.source_ids,
    rows.turns,
from rows
inner join placed using (ordinal)
order by ordinal
