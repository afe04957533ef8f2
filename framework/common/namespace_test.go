package common_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/ckpt-project/ckpt/framework/common"
)

func TestNamespaceFlags(t *testing.T) {
	id := [common.NamespaceIDSize]byte{1, 2, 3, 23: 9}
	for _, c := range []struct {
		flags            common.NamespaceFlags
		test, keyManager bool
		first            byte
	}{
		{0, false, false, 0},
		{common.NamespaceTest, true, false, 0x80},
		{common.NamespaceKeyManager, false, true, 0x40},
		{common.NamespaceTest | common.NamespaceKeyManager, true, true, 0xc0},
	} {
		ns, err := common.NewNamespace(id, c.flags)
		if err != nil {
			t.Fatal(err)
		}
		if ns.IsTest() != c.test || ns.IsKeyManager() != c.keyManager || ns.Flags() != c.flags || ns[0] != c.first || !bytes.Equal(ns[8:], id[:]) {
			t.Errorf("flags %x: %s", uint64(c.flags), ns)
		}
	}
	for bit := range 62 {
		if _, err := common.NewNamespace(id, 1<<bit); !errors.Is(err, common.ErrMalformedNamespace) {
			t.Errorf("reserved bit %d: %v", bit, err)
		}
	}
}

func TestNamespaceForms(t *testing.T) {
	ns := common.NewTestNamespaceFromSeed([]byte("seed"), common.NamespaceKeyManager)
	if !ns.IsTest() || !ns.IsKeyManager() {
		t.Errorf("flags %x", uint64(ns.Flags()))
	}
	if other := common.NewTestNamespaceFromSeed([]byte("other"), common.NamespaceKeyManager); other.Equal(&ns) {
		t.Error("two seeds give one namespace")
	}
	b, err := ns.MarshalBinary()
	if err != nil || hex.EncodeToString(b) != ns.Hex() || ns.String() != ns.Hex() {
		t.Errorf("%x, %v, of %s", b, err, ns)
	}
	var fromBytes, fromHex, fromJSON common.Namespace
	text, err := json.Marshal(ns)
	if err != nil || string(text) != `"`+ns.Hex()+`"` {
		t.Errorf("JSON %s, %v", text, err)
	}
	for name, err := range map[string]error{
		"bytes": fromBytes.UnmarshalBinary(b),
		"hex":   fromHex.UnmarshalHex(strings.ToUpper(ns.Hex())),
		"JSON":  json.Unmarshal(text, &fromJSON),
	} {
		if err != nil {
			t.Errorf("from %s: %v", name, err)
		}
	}
	for _, got := range []common.Namespace{fromBytes, fromHex, fromJSON} {
		if !got.Equal(&ns) {
			t.Errorf("%s, want %s", got, ns)
		}
	}
	var none *common.Namespace
	if none.Equal(&ns) || ns.Equal(none) || none.Equal(none) {
		t.Error("a nil namespace equals something")
	}
}

func TestNamespaceMalformed(t *testing.T) {
	good := common.NewTestNamespaceFromSeed([]byte("seed"), 0)
	ns := good
	reserved := good
	reserved[7] = 1
	for _, b := range [][]byte{nil, good[:31], append(good[:], 0), reserved[:]} {
		if err := ns.UnmarshalBinary(b); !errors.Is(err, common.ErrMalformedNamespace) {
			t.Errorf("%x: %v", b, err)
		}
	}
	for _, text := range []string{"", good.Hex()[1:], good.Hex() + "0", "z" + good.Hex()[1:], reserved.Hex()} {
		if err := ns.UnmarshalHex(text); !errors.Is(err, common.ErrMalformedNamespace) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if !ns.Equal(&good) {
		t.Errorf("the namespace became %s", ns)
	}
}

func TestReservedFlagOfTestNamespace(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a reserved flag was taken")
		}
	}()
	common.NewTestNamespaceFromSeed(nil, 1)
}
