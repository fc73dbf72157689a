-- Every list of devices and sagas is a piece of an index, past all that is gone; and what is gone
-- can be pruned without a look at what lives.

-- With the columns that the numbers by status are made of.
CREATE INDEX device_living ON device(device_id, status, deleted_at) WHERE deleted_at IS NULL;
CREATE INDEX device_living_of_user ON device(user_id, device_id) WHERE deleted_at IS NULL;
CREATE INDEX device_gone ON device(deleted_at)
    WHERE deleted_at IS NOT NULL AND phase = 'absent' AND command_seq IS NULL AND command_dirty = 0;
CREATE INDEX saga_by_type ON saga_state(type, saga_id);
-- Recordings whose videos are no longer kept.
CREATE INDEX recording_unkept ON recording(over_at) WHERE over_at IS NOT NULL AND quota_bytes = 0;
