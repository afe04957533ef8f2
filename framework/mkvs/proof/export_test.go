package proof

import "github.com/ckpt-project/ckpt/framework/hash/lanes"

// QueueLength is how many nodes may wait to be hashed.
const QueueLength = queueLength

// Queued says how many do.
func (d *Decoder) Queued() int { return len(d.queue) }

// Use makes the decoder hash with a kernel other than the best.
func (d *Decoder) Use(k *lanes.Kernel) { d.batch.Use(k) }
