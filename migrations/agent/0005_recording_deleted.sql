-- Recordings that were deleted by order, and are over: their files go, and then their rows.

CREATE INDEX recording_deleted ON recording(recording_id) WHERE wish = 'deleted' AND finished_at IS NOT NULL;
