-- What the queries of formats share.

-- Name of a path without its folders and its last ending, as Python's PurePath.stem.
create or replace temp macro stem_of(path_) as regexp_extract(path_, '([^/]+?)(\.[^./]*)?/*$', 1);

-- A path without `/./` and `/x/../`.
create or replace temp macro step_up(path_) as regexp_replace(path_, '/[^/]+/\.\./', '/');
create or replace temp macro without_dots(path_) as if(
    contains(path_, '/./') or contains(path_, '/../'),
    step_up(step_up(step_up(step_up(step_up(step_up(step_up(step_up(replace(path_, '/./', '/'))))))))),
    path_
);

-- Address of the audio that a manifest in `folder` names: absolute, a URL, or relative to the folder.
create or replace temp macro absolute_audio(audio_, folder_) as case
    when contains(audio_, '://') then audio_
    when starts_with(audio_, '~/') then without_dots('{home}' || audio_[2:])
    when starts_with(audio_, '/') then without_dots(audio_)
    else without_dots(folder_ || '/' || if(starts_with(audio_, './'), audio_[3:], audio_))
end;

-- Whether a field that is there is no finite number.
create or replace temp macro bad_seconds(said_) as
    said_ is not null and not coalesce(isfinite(try_cast(said_ as double)), false);

-- Id of a row that has none: the same content keeps it wherever the row stands.
create or replace temp macro content_id(corpus_, content_) as
    corpus_ || '/' || printf('%016x', md5_number_lower(content_));

-- A value inside of an alignment's hash, which goes into a file: an absent one is not an empty one.
create or replace temp macro said(value_) as coalesce(value_::varchar, chr(30));
