-- Videos that are no longer kept: those that were deleted by order, for their hosts; and the
-- bytes of those that still count, so that hosts' times of keeping can be held against them.

CREATE INDEX recording_deleted ON recording(host_id, recording_id) WHERE wish = 'deleted';
CREATE INDEX recording_counted ON recording(host_id, over_at) WHERE over_at IS NOT NULL AND quota_bytes > 0;
