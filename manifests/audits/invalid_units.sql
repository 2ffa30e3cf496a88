-- title: Units out of their vocabulary, or that do not add up
-- severity: error
-- why: A unit beyond the codebook, equal neighbours' durations lost, frames that do not sum up: such a
--   part was damaged, or written by something else.
-- fix: Delete the part in units/ and run cslm-data quantize again.
-- needs: units

-- One row per utterance and speech tokenizer.
select
    units.tokenizer_id,
    units.utt_id,
    len(units.units) as num_units,
    list_max(units.units) as largest_unit,
    list_sum(units.durations) as duration_frames,
    units.num_frames,
from units
left join tokenizers using (tokenizer_id)
where
    list_max(units.units) >= tokenizers.num_units
    or len(units.units) <> len(units.durations)
    or list_sum(units.durations) <> units.num_frames
order by units.tokenizer_id, units.utt_id;
