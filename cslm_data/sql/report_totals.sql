-- What a workspace holds in all, without what was moved out. One row.
with speech as (
    select
        count(*) as num_utterances,
        coalesce(sum(duration_s), 0) / 3600 as hours,
        count(text) as num_transcribed,
        count(distinct (corpus, speaker)) filter (where speaker is not null) as num_speakers,
    from utterances
),

named as (
    select corpus, language from utterances
    union
    select corpus, src_lang as language from bitext
    union
    select corpus, tgt_lang as language from bitext
    union
    select corpus, language from dialogues
)

select
    speech.num_utterances,
    speech.hours,
    speech.num_transcribed,
    speech.num_speakers,
    (select count(distinct corpus) from named) as num_corpora,
    (select count(distinct language) from named) as num_languages,
    (select count(*) from bitext) as num_pairs,
    (select count(*) from dialogues) as num_dialogues,
    (select count(*) from texts) as num_texts,
    (select count(distinct (table_name, id)) from excluded) as num_moved_out,
    (select count(*) from rejects where stage not in ('filter', 'dedup')) as num_rejected,
from speech
