-- The catalog of bench_audits.py, and Parquet beside it. {rows} utterances, {runs} units each.

-- One row per utterance: ten words of a Zipf-like vocabulary, or fifteen characters; one in fifty is the
-- sentence of another one and a little more.
insert into all_utterances
with numbers as (
    select i, i % 4 as l, if(i % 50 = 0, greatest(i - 4, 0), i) as base
    from range({rows}) as r (i)
),

pieces as (
    select
        i,
        base,
        ['en', 'de', 'fr', 'zh'][l + 1] as language,
        list_transform(range(15), lambda k: pow(hash(base, k) % 1000000 / 1000000, 3)) as chosen,
    from numbers
),

spoken as (
    select
        i,
        language,
        if(
            language = 'zh',
            array_to_string(list_transform(chosen, lambda x: chr((19968 + floor(5000 * x))::int)), ''),
            array_to_string(
                list_transform(
                    chosen[1:10],
                    lambda x: md5(floor(50000 * x)::varchar)[1:2 + floor(50000 * x)::int % 6]
                ),
                ' '
            )
        ) || if(base = i, '', if(language = 'zh', '了', ' end')) as text,
    from pieces
)

select
    'utt-' || i as utt_id,
    'corpus' || (i % 7) as corpus,
    '/audio/' || (i // 20) || '.flac' as audio,
    (i % 20) * 5.0 as offset_s,
    3 + (i % 100) / 50 as duration_s,
    16000 as sample_rate_hz,
    1 as num_channels,
    language,
    'speaker' || (i // 500) as speaker,
    text,
    text as text_norm,
    hash(text) as text_key,
    'human' as kind,
    'CC BY 4.0' as license,
    if(i // 500 % 10 = 0, 'test', 'train') as split,
    'v' || (i // 20) as audio_version,
    hash('key', i) as key_hash,
    'source' as source_uri,
    'source:' || i as place,
    i as row_hash,
from spoken;

-- A translation of each tenth.
insert into all_bitext
select
    'pair-' || utt_id as pair_id,
    'bitext' as corpus,
    'en' as src_lang,
    'zh' as tgt_lang,
    text as src,
    text || ' x' as tgt,
    text_key as src_key,
    hash(text || ' x') as tgt_key,
    'CC0' as license,
    'train' as split,
    key_hash,
    'pairs' as source_uri,
    place,
    row_hash,
from all_utterances
where row_hash % 10 = 0;

copy (
    select
        utt_id,
        list_transform(range({runs}), lambda k: (hash(utt_id, k) % 250 * 2 + k % 2)::usmallint) as units,
        list_transform(range({runs}), lambda k: (1 + hash(utt_id, k, 1) % 3)::usmallint) as durations,
        list_sum(durations)::uinteger as num_frames,
        audio_version,
        null::varchar as reject_reason,
        null::varchar as reject_detail,
    from all_utterances
) to '{units}' (format parquet);

copy (
    select
        utt_id,
        audio_version,
        16000 as sample_rate_hz,
        1 as num_channels,
        (duration_s * 16000)::ubigint as num_samples,
        duration_s as decoded_s,
        -26.0::double as rms_db,
        0.5::double as peak,
        0.0::double as clipped_share,
        0.0::double as dc_offset,
        0.1::double as leading_silence_s,
        0.1::double as trailing_silence_s,
        0.2::double as silence_share,
        30.0::double as snr_db,
        7600.0::double as bandwidth_hz,
        md5(utt_id) as samples_hash,
    from all_utterances
) to '{measures}' (format parquet);

copy (
    select distinct md5_number_lower(text) as text_hash, language, language as detected, 0.99::double as confidence
    from texts
) to '{languages}' (format parquet);
