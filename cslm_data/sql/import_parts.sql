-- The rows of the parts whose utterances are all given, part by part in the order of their plan. One
-- row per utterance. Needs the view `waiting`, the table `matched` and the relation `staged`.
select
    waiting.name,
    waiting.utt_id,
    waiting.audio_version,
    matched.expected_frames,
    staged.units,
    staged.durations,
from waiting
inner join matched using (line)
inner join staged using (line)
order by waiting.name, waiting.place
