-- Utterances without units of a speech tokenizer. One row per (tokenizer, corpus) with a count.
-- They are in no speech task of a mix: run cslm-data quantize.
select tokenizers.tokenizer_id, utterances.corpus, count(*) as utterances, min(utterances.utt_id) as example
from utterances
cross join tokenizers
left join units
    on
        units.tokenizer_id = tokenizers.tokenizer_id
        and units.utt_id = utterances.utt_id
        and units.audio_version = utterances.audio_version
where units.utt_id is null
group by all
order by tokenizers.tokenizer_id, utterances.corpus;
