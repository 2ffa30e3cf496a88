-- Utterances with names for Kaldi, data directory by data directory, in the order of their names.
-- One row per utterance.
--
-- Kaldi wants utt2spk to be sorted by utterance and by speaker at once. A name `speaker-utterance` is,
-- unless one speaker's name begins another's and what follows sorts before the hyphen, or is one
-- (`en-us` and `en-us+m3`): of such a longer name all signs up to the hyphen are written as =XX, and so
-- are blanks and the equals sign in every name. An utterance whose speaker is not known is its own.
with chosen as (
    {export_chosen}
),

plain as (
    select *, kaldi_name(utt_id, '[\s\p{Z}\p{Cc}=]') as utt, kaldi_name(coalesce(speaker, utt_id), '[\s\p{Z}\p{Cc}=]') as who
    from chosen
),

speakers as (
    select distinct who
    from plain
),

beginnings as (
    select who, unnest(list_filter(range(1, length(who)), lambda n: who[n + 1] <= '-')) as num_signs
    from speakers
    where regexp_matches(who, '[!-\-]')
),

clashing as (
    select distinct beginnings.who
    from beginnings
    inner join speakers on "left"(beginnings.who, beginnings.num_signs) = speakers.who
),

named as (
    select plain.*, if(clashing.who is null, plain.who, kaldi_name(plain.who, '[!-\-]')) as spk
    from plain
    left join clashing using (who)
)

select
    utt_id,
    corpus,
    audio,
    offset_s,
    duration_s,
    sample_rate_hz,
    num_channels,
    "language",
    speaker,
    "text",
    kind,
    license,
    split,
    case
        when speaker is null then spk
        when starts_with(utt, spk || '-') then utt
        else spk || '-' || utt
    end as utt_name,
    spk,
    kaldi_name(regexp_extract(audio, '([^/]*?)(\.[^./]*)?$', 1), '[\s\p{Z}\p{Cc}=]') || '-' || "left"(md5(audio), 12) as recording,
from named
order by coalesce(split, 'all'), "text" is null, utt_name, utt_id
