package lanes_test

import (
	"bytes"
	"crypto/sha512"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/hash/lanes"
)

// forEach runs a test with each kernel that this machine has.
func forEach(t *testing.T, test func(*testing.T, *lanes.Kernel)) {
	t.Helper()
	for _, k := range lanes.Kernels() {
		t.Run(k.String(), func(t *testing.T) { test(t, k) })
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// sums hashes the messages in one batch, and compares. What is beside the digests has to stay as it is.
func sums(t rapid.TB, batch *lanes.Batch, messages [][][]byte) {
	t.Helper()
	digests := make([]hash.Hash, len(messages)+1)
	for i, parts := range messages {
		batch.Add(&digests[i], parts...)
	}
	batch.Sum()
	for i, parts := range messages {
		message := bytes.Join(parts, nil)
		if want := hash.Hash(sha512.Sum512_256(message)); digests[i] != want {
			t.Fatalf("message %d of %d, %d bytes: %s, want %s", i, len(messages), len(message), digests[i], want)
		}
	}
	if digests[len(messages)] != (hash.Hash{}) {
		t.Fatalf("a hash that nobody asked for: %s", digests[len(messages)])
	}
}

// Every length, in company of about the same and of any length.
func TestLengths(t *testing.T) {
	const longest = 1100
	data := random(2 * longest)
	orders := map[string]func(i int) int{
		"ascending":  func(i int) int { return i },
		"descending": func(i int) int { return longest - i },
		"by turns":   func(i int) int { return i * 577 % (longest + 1) }, // 577 is prime to 1101
	}
	forEach(t, func(t *testing.T, k *lanes.Kernel) {
		var batch lanes.Batch
		batch.Use(k)
		for name, length := range orders {
			t.Run(name, func(t *testing.T) {
				var messages [][][]byte
				for i := range longest + 1 {
					n := length(i)
					messages = append(messages, [][]byte{data[i : i+n]})
				}
				sums(t, &batch, messages)
				for size := 1; size <= 17; size++ { // groups that are full or not
					for from := 0; from+size <= len(messages); from += size {
						sums(t, &batch, messages[from:from+size])
					}
				}
			})
		}
	})
}

// Messages too long for a batch, or that fill it.
func TestLongMessages(t *testing.T) {
	data := random(300_000)
	forEach(t, func(t *testing.T, k *lanes.Kernel) {
		var batch lanes.Batch
		batch.Use(k)
		for _, n := range []int{16<<10 - 18, 16<<10 - 17, 16<<10 - 16, 16<<10 - 1, 16 << 10, 16<<10 + 1, 100_000, len(data)} {
			var messages [][][]byte
			for i := range 40 {
				messages = append(messages, [][]byte{data[i:n]}, [][]byte{data[:i]}, [][]byte{data[:i], data[i:n]})
			}
			sums(t, &batch, messages)
		}
	})
}

func TestAnyMessages(t *testing.T) {
	data := random(64 << 10)
	forEach(t, func(t *testing.T, k *lanes.Kernel) {
		var batch lanes.Batch // used again and again
		batch.Use(k)
		rapid.Check(t, func(t *rapid.T) {
			part := rapid.Custom(func(t *rapid.T) []byte {
				longest := rapid.SampledFrom([]int{0, 8, 50, 300, 3000, len(data) / 2}).Draw(t, "longest")
				n := rapid.IntRange(0, longest).Draw(t, "bytes")
				from := rapid.IntRange(0, len(data)-n).Draw(t, "from")
				return data[from : from+n]
			})
			sums(t, &batch, rapid.SliceOfN(rapid.SliceOfN(part, 0, 5), 0, 50).Draw(t, "messages"))
		})
	})
}

// FuzzBatch cuts data into messages: a byte says how long each is, in steps that reach over some blocks.
func FuzzBatch(f *testing.F) {
	f.Add(uint8(1), []byte("\x03abc\x00\x05later"))
	f.Add(uint8(3), bytes.Repeat([]byte{40, 'x', 'y'}, 500))
	f.Add(uint8(7), random(5000))
	f.Fuzz(func(t *testing.T, step uint8, data []byte) {
		var messages [][][]byte
		for len(data) > 0 {
			n := int(data[0]) * int(step)
			data = data[1:]
			n = min(n, len(data))
			messages = append(messages, [][]byte{data[:n/2], data[n/2 : n]})
			data = data[n:]
		}
		for _, k := range lanes.Kernels() {
			var batch lanes.Batch
			batch.Use(k)
			sums(t, &batch, messages)
		}
	})
}

// A part may be changed when Add has returned, and a digest's place may be a part.
func TestPartsAreCopied(t *testing.T) {
	forEach(t, func(t *testing.T, k *lanes.Kernel) {
		var batch lanes.Batch
		batch.Use(k)
		digests := make([]hash.Hash, 20)
		for i := range digests {
			digests[i] = hash.Sum([]byte{byte(i)})
			head := []byte("head")
			batch.Add(&digests[i], head, digests[i][:])
			copy(head, "gone")
		}
		batch.Sum()
		for i := range digests {
			before := hash.Sum([]byte{byte(i)})
			if want := hash.Sum(append([]byte("head"), before[:]...)); digests[i] != want {
				t.Errorf("message %d: %s, want %s", i, digests[i], want)
			}
		}
	})
}

func TestNoAllocations(t *testing.T) {
	data := random(1000)
	digests := make([]hash.Hash, 300)
	forEach(t, func(t *testing.T, k *lanes.Kernel) {
		batch := new(lanes.Batch)
		batch.Use(k)
		if n := testing.AllocsPerRun(10, func() {
			for i := range digests {
				batch.Add(&digests[i], data[:i], data[i:])
			}
			batch.Sum()
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

const kernelsEnv = "LANES_TEST_PRINT_KERNELS"

func TestMain(m *testing.M) {
	if os.Getenv(kernelsEnv) != "" {
		for _, k := range lanes.Kernels() {
			println(k.String())
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A program can be kept from what the CPU has, and works then.
func TestSwitchedOff(t *testing.T) {
	all := lanes.Kernels()
	if all[len(all)-1].String() != "portable" {
		t.Errorf("kernels %v: the last is not the portable one", all)
	}
	if runtime.GOARCH != "amd64" {
		t.Skip("no other kernels on " + runtime.GOARCH)
	}
	for _, c := range []struct{ off, without string }{
		{"cpu.avx512f=off", "AVX-512"},
		{"cpu.avx512bw=off", "AVX-512"},
		{"cpu.avx2=off", "AVX2"},
	} {
		var want []string
		for _, k := range all {
			if k.String() != c.without {
				want = append(want, k.String())
			}
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), kernelsEnv+"=1", "GODEBUG="+os.Getenv("GODEBUG")+","+c.off)
		out, err := cmd.CombinedOutput()
		if got := strings.Fields(string(out)); err != nil || strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%s: kernels %q, %v, want %q", c.off, got, err, want)
		}
	}
}
